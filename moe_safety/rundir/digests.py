"""Digests of files. What is large is hashed once, and the finding remembered by the state of the file."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from moe_safety.rundir.timings import spent

if TYPE_CHECKING:
    import pyarrow as pa

_LARGE = 1 << 23
PIECE = 1 << 25
"""Bytes that are asked of a store at once: each request takes its time, however little it is for."""
_TICK = 20_000_000
"""Nanoseconds in which a file's time may stand still while it is written."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def cache_folder() -> Path:
    """Where this machine keeps what can be had again."""
    return Path(os.environ.get("MOE_SAFETY_CACHE") or Path.home() / ".cache" / "moe-safety")


@spent("hashing")
def file_digest(path: str | Path) -> str:
    """sha256 of a local file."""
    return str(remembered(Path(path), "digests", _hashed))


def remembered(file: Path, kind: str, find: Callable[[Path], Any]) -> Any:
    """What is found in a file, as plain data. In a large one it is looked for once; a file of another size, place or
    time is looked at anew."""
    real = file.resolve()
    state = _settled(real)
    if state[0] < _LARGE:
        return find(real)
    if (known := _read(_note(real, kind), state)) is not None:
        return known
    found = find(real)
    if _state(real) == state:
        _write(_note(real, kind), state, found)
    return found


def stream_digest(stream: pa.NativeFile, uri: str) -> str:
    """sha256 of an object in a store. A large one is read once: what the store says of it, its own tag of the contents
    above all, shows whether it was written anew."""
    state, note = _object_state(stream), _note(uri, "digests")
    if state and (known := _read(note, state)) is not None:
        return str(known)
    digest = hashlib.sha256()
    while chunk := stream.read(PIECE):
        digest.update(chunk)
    if state:
        _write(note, state, digest.hexdigest())
    return digest.hexdigest()


def remember_stream_digest(stream: pa.NativeFile, uri: str, digest: str) -> None:
    """Spares the reading of an object that is a copy of a known one."""
    if state := _object_state(stream):
        _write(_note(uri, "digests"), state, digest)


def _object_state(stream: pa.NativeFile) -> list[list[str]]:
    """Nothing where the object is small, or the store gives no tag."""
    told = {key: value.decode() for key, value in stream.metadata().items()}
    large = "ETag" in told and int(told.get("Content-Length", 0)) >= _LARGE
    return sorted([key, value] for key, value in told.items()) if large else []


def remember_digest(file: Path, digest: str) -> None:
    """Spares whoever asks for the digest of a file that was hashed while it was written."""
    real = file.resolve()
    if (state := _settled(real))[0] >= _LARGE:
        _write(_note(real, "digests"), state, digest)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results in order. For what reads and hashes, which needs no lock of Python's."""
    todo = list(items)
    if len(todo) < 2:
        return list(map(function, todo))
    with ThreadPoolExecutor(min(len(todo), os.cpu_count() or 1, 16)) as pool:
        return list(pool.map(function, todo))


def _hashed(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _note(real: Path | str, kind: str) -> Path:
    return cache_folder() / kind / f"{hashlib.sha256(str(real).encode()).hexdigest()}.json"


def _read(note: Path, state: list[Any]) -> Any:
    """None where nothing is noted of this state."""
    with suppress(OSError, ValueError, KeyError):
        stored = json.loads(note.read_text())
        return stored["found"] if stored["state"] == state else None
    return None


def _state(real: Path) -> list[int]:
    state = real.stat()
    # A copying program may set the time of the last writing; that of the last change only the kernel sets.
    return [state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns]


def _settled(real: Path) -> list[int]:
    """The state, of which a later change would show: not within the tick of the clock that the last one came in."""
    state = _state(real)
    if state[0] >= _LARGE and 0 <= time.time_ns() - state[-1] < _TICK:
        time.sleep(_TICK / 1e9)
        return _state(real)
    return state


def _write(note: Path, state: list[Any], found: Any) -> None:
    with suppress(OSError):  # Without a place to keep it, it is found again.
        note.parent.mkdir(parents=True, exist_ok=True)
        aside = note.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        aside.write_text(json.dumps({"state": state, "found": found}))
        aside.replace(note)
