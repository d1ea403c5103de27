"""Files that are being written, each in a hidden folder beside the place that it will take. Its writer has the folder
locked for as long as that lives, so that what a killed one left can be told, and deleted, by whoever comes by."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

_SUFFIX, _LOCK = ".tmp", "lock"


@contextmanager
def half_written(target: str) -> Iterator[str]:
    """A file to fill and to put in its place. Its folder goes with all that a library puts beside it."""
    place, name = os.path.split(target)
    folder = f"{place}/.{name}.{uuid.uuid4().hex}{_SUFFIX}"
    with _locked(folder):
        try:
            yield f"{folder}/{name}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(root: str) -> None:
    """Deletes, below `root`, what is half written and whose writer is gone."""
    for place, names, _ in os.walk(root):
        halves = [name for name in names if name.startswith(".") and name.endswith(_SUFFIX)]
        names[:] = set(names) - set(halves)
        for name in halves:
            # A writer that lives has it locked, or has just finished.
            with suppress(BlockingIOError, FileNotFoundError), open(f"{place}/{name}/{_LOCK}", "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(f"{place}/{name}", ignore_errors=True)


def _locked(folder: str) -> IO[bytes]:
    """The lock of the folder, which is made. One that is not locked yet looks abandoned: it is made again if somebody
    took it for that."""
    while True:
        os.makedirs(folder, exist_ok=True)
        with suppress(FileNotFoundError), ExitStack() as stack:
            lock = stack.enter_context(open(f"{folder}/{_LOCK}", "ab"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.stat(lock.name)
            stack.pop_all()
            return lock
