"""One writer per stage and arm, or several readers. The lock goes with its process, however that process ends."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from moe_safety.rundir.storage import RunDir, refusals
from moe_safety.rundir.store_lock import identity, lease, taken


@contextmanager
def stage_lock(run: RunDir, stage: str, *, shared: bool = False) -> Iterator[None]:
    """Held while a stage runs; a second command on the same stage ends with exit 1. `shared` is for commands that only
    read what the stage left, as many as want to.

    On a local disk and on NFS the kernel keeps it, so that it is gone with its process; an object store has a lease.
    """
    stage = stage.replace("/", ".")
    if not run.is_local:
        with lease(run, stage, shared=shared):
            yield
        return
    path = Path(run.path(f"locks/{stage}.lock"))
    with ExitStack() as stack:
        with refusals(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without a buffer: on a full disk closing would write it once more, and fail where nobody tells it.
            file = stack.enter_context(open(path, "a+b", buffering=0))
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise taken(run, stage, file.read().decode()) from None
            file.truncate(0)
            file.write(json.dumps(identity()).encode())
        yield
