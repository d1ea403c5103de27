"""The log at the top of the run directory: what the console says, with times, and what it leaves out."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from moe_safety.errors import InputError, RunError

if TYPE_CHECKING:
    from moe_safety.rundir import RunDir

LOG = "log.txt"


@contextmanager
def logged(run_dir: str, *, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Inside, the log takes all that is printed, every warning and notice, and the traceback of an error; at the end it
    names where Ray keeps its own. `quiet` leaves standard output and progress to it, `verbose` shows notices and
    tracebacks on the console too."""
    from moe_safety.jobs import Progress
    from moe_safety.rundir import RunDir

    log, before, said = _Log(RunDir(run_dir)), (sys.stdout, sys.stderr), Progress.quiet
    Progress.quiet = quiet
    sys.stdout, sys.stderr = _Tee(None if quiet else sys.stdout, log), _Tee(sys.stderr, log)
    program = Path(sys.argv[0]).name.replace("__main__.py", "moe-safety")
    log.line(f"$ {' '.join([program, *sys.argv[1:]])} (in {os.getcwd()}, process {os.getpid()})")
    try:
        with _listening(log, before[1], logging.INFO if verbose else logging.WARNING):
            yield
        log.line("ended well")
    except BaseException:
        (before[1] if verbose else io.StringIO()).write(traceback.format_exc())
        log.write(traceback.format_exc())
        raise
    finally:
        sys.stdout, sys.stderr = before
        Progress.quiet = said
        if (session := _session_of_ray()) is not None:
            log.line(f"logs of Ray and its workers: {session}/logs")
        # What ended the command is told by it; a store that does not answer is no further news.
        with suppress(Exception):
            log.close()


def _session_of_ray() -> str | None:
    ray = sys.modules.get("ray")
    node = ray._private.worker._global_node if ray is not None and ray.is_initialized() else None
    return None if node is None else str(node.get_session_dir_path())


class _Log:
    """Lines with the times at which they began, behind those of earlier commands."""

    def __init__(self, run: RunDir) -> None:
        self.run, self.at_start, self.lock = run, True, threading.Lock()
        self.text: TextIO = io.StringIO()
        if run.is_local:
            # Line by line, so that what was said stays if this process is killed.
            try:
                os.makedirs(run.root, exist_ok=True)
                self.text = open(  # noqa: SIM115
                    run.path(LOG), "a", buffering=1, encoding="utf-8"
                )
            except OSError as error:
                told = f"nothing can be written in {run.root}: {error.strerror}"
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise RunError(told) from None
                raise InputError(f"{told}; take another, or see to the rights there", key="run_dir") from None

    def write(self, text: str) -> None:
        """Takes what is printed. A status line, which is written over, is not news; a full disk is told by the work.
        Handlers of libraries may hold the stream for longer than the command runs."""
        if text.startswith("\r"):
            return
        with self.lock, suppress(OSError):
            if self.text.closed:
                return
            for line in text.splitlines(keepends=True):
                self.text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}" if self.at_start else line)
                self.at_start = line.endswith("\n")

    def line(self, text: str) -> None:
        """Takes a line."""
        self.write(f"{text}\n")

    def close(self) -> None:
        """In a store nothing can be added to a file, so that it is written anew."""
        if isinstance(self.text, io.StringIO):
            before = self.run.read_bytes(LOG) if self.run.exists(LOG) else b""
            self.run.write_bytes(LOG, before + self.text.getvalue().encode())
        self.text.close()


class _Tee(io.TextIOBase):
    """A stream to the console, if there is one, and to the log."""

    def __init__(self, console: TextIO | None, log: _Log) -> None:
        self.console, self.log = console, log

    def write(self, text: str) -> int:
        self.log.write(text)
        return self.console.write(text) if self.console else len(text)

    def flush(self) -> None:
        if self.console:
            self.console.flush()

    def isatty(self) -> bool:
        return self.console is not None and self.console.isatty()

    def fileno(self) -> int:
        if self.console is None:
            raise io.UnsupportedOperation("fileno")
        return self.console.fileno()


@contextmanager
def _listening(log: _Log, console: TextIO, least: int) -> Iterator[None]:
    """What libraries say by `logging`: warnings, and of this program notices too, in the log; from `least` on also on
    the console."""
    ours, root = logging.getLogger("moe_safety"), logging.getLogger()
    handlers: list[logging.Handler] = [logging.StreamHandler(_Lines(log)), logging.StreamHandler(console)]
    handlers[0].setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    handlers[1].setLevel(least)
    level = ours.level
    ours.setLevel(logging.INFO)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield
    finally:
        ours.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)


class _Lines(io.TextIOBase):
    """The log as a stream."""

    def __init__(self, log: _Log) -> None:
        self.log = log

    def write(self, text: str) -> int:
        self.log.write(text)
        return len(text)
