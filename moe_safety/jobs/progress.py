"""One line that says what a command is at: written over on a terminal, a line now and then in a log."""

from __future__ import annotations

import io
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import ClassVar, Self, TextIO

LOG_EVERY_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 1.0

PHASES = {
    "ray": "starting Ray",
    "imports": "importing modules",
    "weights": "reading weights",
    "compiling": "compiling",
    "comparing": "comparing checkpoints",
    "writing": "writing files",
    "hashing": "hashing files",
    "waiting": "waiting for workers",
}
"""What seconds are spent on (`rundir/timings.py`), in words; all else is work."""


WORKING = "working"


def phase_of(kind: str | None) -> str:
    """What somebody is at whose seconds are of this kind."""
    return PHASES.get(kind or "", WORKING)


class Progress:
    """The phase, how much is done of all, the speed and the time that is left. Without `items` it is known only what is
    being done, and for how long. One that begins inside another speaks in its place."""

    quiet: ClassVar[bool] = False
    """Whether nothing is said."""
    _open: ClassVar[list[Progress]] = []

    def __init__(self, name: str, items: int | None, phase: Callable[[], str]) -> None:
        self.name, self.items, self.phase = name, items, phase
        self.done = self.prompts = self.tokens = 0
        self.started = self.logged = time.monotonic()
        self.began: float | None = None
        """When the first replica had all that it needs, and began to work."""
        self.warned = set[str]()
        self.status: _StatusLine | None = None
        self.ended = threading.Event()

    def __enter__(self) -> Self:
        for outer in self._open[-1:]:
            outer._rest()
        self._open.append(self)
        self._speak()
        threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._rest()
        spoke = self._open[-1] is self
        self._open.remove(self)
        for outer in self._open[-1:] if spoke else ():
            outer._speak()

    def warn(self, lines: Iterable[str]) -> None:
        """Says what replicas warned of, each different line once."""
        for line in lines:
            if line not in self.warned:
                self.warned.add(line)
                print(f"{self.name}: {line}", file=sys.stderr, flush=True)

    def advance(self, prompts: int, tokens: int, worked: float, items: int = 1) -> None:
        """Counts items as done. Whoever did them has `worked` for so many seconds by now, on these and others."""
        self.done, self.prompts, self.tokens = self.done + items, self.prompts + prompts, self.tokens + tokens
        now = time.monotonic()
        self.began = min(self.began or now, now - worked)
        if self.done == self.items:
            self._say(f"{self.done}/{self.items} items, {self.speed(now)}, {told_seconds(now - self.started)}")

    def speed(self, now: float) -> str:
        """The speed since work began, in words."""
        prompts, tokens = self.rates(now)
        return f"{prompts:,.1f} prompts/s, {tokens:,.0f} tokens/s"

    def rates(self, now: float) -> tuple[float, float]:
        """Prompts and tokens per second."""
        seconds = max(now - (self.started if self.began is None else self.began), 1e-9)
        return self.prompts / seconds, self.tokens / seconds

    def line(self, now: float) -> str:
        """All of it in words."""
        phase = "starting"
        with suppress(Exception):  # Whoever is asked may be gone.
            phase = self.phase()
        if self.items is None or not self.done:
            count = f", 0/{self.items} items" if self.items else ""
            return f"{phase}{count}, for {told_seconds(now - self.started)}"
        left = (self.items - self.done) * (now - (self.began or now)) / self.done
        return f"{phase}, {self.done}/{self.items} items, {self.speed(now)}, {told_seconds(left)} left"

    def _look(self) -> None:
        while not self.ended.wait(_LOOK_EVERY_SECONDS):
            now = time.monotonic()
            status = self.status
            if status is not None:
                status.show(f"{self.name}: {self.line(now)}")
            elif self._open[-1:] == [self] and now - self.logged >= LOG_EVERY_SECONDS:
                self.logged = now
                self._say(self.line(now))

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(f"{self.name}: {line}", file=sys.stderr, flush=True)

    def _speak(self) -> None:
        if sys.stderr.isatty() and not self.quiet:
            self.status = _StatusLine()

    def _rest(self) -> None:
        status, self.status = self.status, None
        if status is not None:
            status.end()


class _StatusLine:
    """A line at the bottom of a terminal that is written over; what is printed meanwhile stands above it."""

    def __init__(self) -> None:
        self.terminal, self.lock, self.shown, self.ended = sys.stderr, threading.RLock(), False, False
        self.within = False
        """Whether what was printed last waits for the rest of its line."""
        self.before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (_Above(stream, self) if stream.isatty() else stream for stream in self.before)

    def show(self, text: str) -> None:
        """Writes the line over; who asked for it while it ended comes too late."""
        with self.lock:
            if self.ended or self.within:
                return
            width = shutil.get_terminal_size().columns
            self.terminal.write(f"\r{text[: width - 1]}\x1b[K")
            self.terminal.flush()
            self.shown = True

    def clear(self) -> None:
        """Takes the line away."""
        with self.lock:
            if self.shown:
                self.terminal.write("\r\x1b[K")
                self.terminal.flush()
            self.shown = False

    def end(self) -> None:
        """Takes the line away for good."""
        sys.stdout, sys.stderr = self.before
        with self.lock:
            self.ended = True
            self.clear()


class _Above(io.TextIOBase):
    """A stream to the terminal."""

    def __init__(self, stream: TextIO, status: _StatusLine) -> None:
        self.stream, self.status = stream, status

    def write(self, text: str) -> int:
        with self.status.lock:
            self.status.clear()
            self.status.within = not text.endswith("\n") if text else self.status.within
            return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()


def told_seconds(seconds: float) -> str:
    """As people say them."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
