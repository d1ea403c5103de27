"""Files that are being written, beside the ones whose place they will take. Each is locked by its writer for as long as
that lives, so that what a killed one left can be told and deleted, by whoever sees the folder."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_SUFFIX = ".tmp"


@contextmanager
def half_written(target: str) -> Iterator[str]:
    """A file to fill. It is gone afterwards, unless it was renamed."""
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    path = f"{folder}/.{name}.{uuid.uuid4().hex}{_SUFFIX}"
    with _locked(path):
        try:
            yield path
        finally:
            Path(path).unlink(missing_ok=True)


def _locked(path: str) -> IO[bytes]:
    """The file, new and empty. One that is not locked yet looks abandoned, and is made again if it was taken for it."""
    while True:
        file = open(path, "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(path):
            return file
        file.close()


def remove_abandoned(root: str) -> None:
    """Deletes, below `root`, the files whose writers are gone."""
    for folder, _, names in os.walk(root):
        for name in names:
            if name.startswith(".") and name.endswith(_SUFFIX):
                # A writer that lives has it locked, or has just put it in its place.
                with suppress(BlockingIOError, FileNotFoundError), open(f"{folder}/{name}", "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(f"{folder}/{name}")
