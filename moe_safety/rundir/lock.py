"""One writer per stage and arm. The lock goes with its process, however that process ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moe_safety.errors import RunError
from moe_safety.rundir.storage import RunDir


@contextmanager
def stage_lock(run: RunDir, stage: str) -> Iterator[None]:
    """Held while a stage runs; a second command on the same stage ends at once with exit 1."""
    if not run.is_local:
        yield
        return
    path = Path(run.path(f"locks/{stage}.lock"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise RunError(f"{run.uri}: `{stage}` is being run already by {_holder(file.read())}") from None
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, file)
        file.flush()
        yield


def _holder(text: str) -> str:
    try:
        holder = json.loads(text)
    except ValueError:
        return "another command"
    return f"process {holder['pid']} on {holder['host']}"
