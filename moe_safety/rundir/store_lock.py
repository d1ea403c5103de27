"""The stage lock of a store without `flock`: a claim that its owner keeps changing for as long as it lives.

A command looks for claims, writes its own, and looks again. A store shows what was written before it is listed, so of
two commands at least one sees the other's claim, and whoever sees one that lives withdraws. A claim lives if it changes
while one looks at it: no clock is compared with another. Only its owner takes a claim away, or one who saw it stand
still for `PATIENCE`.

Its limits: two commands begun in the same moment may both withdraw. A process that is stopped for longer than
`PATIENCE`, or cut off from the store, loses its claim, and until it wakes and sees so two may write. They write the
same parts, each whole, and what counts is still what a marker's hash vouches for.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from moe_safety.errors import RunError
from moe_safety.rundir.storage import RunDir

BEAT = 10.0
"""Seconds between the changes of a claim."""
PATIENCE = 6 * BEAT
"""Seconds after which a claim that has not changed is given up for dead."""
_SHARED = "-shared"


@contextmanager
def lease(run: RunDir, stage: str, *, shared: bool = False) -> Iterator[None]:
    """Held while a stage runs; whoever comes second gets one line. Those that share it do not disturb each other."""
    folder = f"locks/{stage}"
    for claim in _hindering(run, folder, shared):
        if _lives(run, stage, claim):
            raise taken(run, stage, _read(run, claim))
        run.delete(claim)
    own = _Claim(run, f"{folder}/{uuid.uuid4().hex}{_SHARED if shared else ''}.json")
    with own:
        if others := [claim for claim in _hindering(run, folder, shared) if claim != own.name]:
            raise taken(run, stage, _read(run, others[0]))
        yield
        if own.lost:
            raise RunError(f"{run.uri}: another command took `{stage}` over while this one stood still; run it again")


def _hindering(run: RunDir, folder: str, shared: bool) -> list[str]:
    """The claims that one must look at before one goes on."""
    claims = run.names(folder, ".json")
    return [claim for claim in claims if not (shared and claim.endswith(f"{_SHARED}.json"))]


def identity() -> dict[str, str | int]:
    """Who holds a lock."""
    return {"pid": os.getpid(), "host": socket.gethostname()}


def taken(run: RunDir, stage: str, holder: bytes | str | None) -> RunError:
    """The error that a second command is told."""
    try:
        known = json.loads(holder or "")
        who = f"process {known['pid']} on {known['host']}"
    except ValueError:
        who = "another command"
    return RunError(f"{run.uri}: `{stage}` is being run already by {who}")


class _Claim:
    """A file that a thread keeps changing."""

    def __init__(self, run: RunDir, name: str) -> None:
        self.run, self.name, self.lost = run, name, False
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self.run.write_json(self.name, identity() | {"beat": 0})
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        self.run.delete(self.name)

    def _beat(self) -> None:
        beat = 0
        while not self._left.wait(BEAT):
            beat += 1
            # A store that cannot be reached may be there again at the next beat.
            with suppress(RunError, OSError):
                if not self.run.exists(self.name):
                    self.lost = True
                    return
                self.run.write_json(self.name, identity() | {"beat": beat})


def _lives(run: RunDir, stage: str, claim: str) -> bool:
    first = _read(run, claim)
    print(f"{taken(run, stage, first)}, or was; watching for {PATIENCE:g} s", file=sys.stderr)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(BEAT / 5)
        now = _read(run, claim)
        if now != first:
            return now is not None
    return False


def _read(run: RunDir, claim: str) -> bytes | None:
    """None where it has gone."""
    try:
        return run.read_bytes(claim)
    except FileNotFoundError:
        return None
