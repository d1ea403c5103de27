"""A local copy of a folder that stands in a store, for libraries that read from disk alone."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pyarrow import fs

from moe_safety.errors import InputError, RunError
from moe_safety.rundir.storage import RunDir, place_of


def fetched(uri: str, cache: Path) -> Path:
    """The copy of `uri` in `cache`, made anew where the store's files have other names, sizes or times than it had."""
    store = RunDir(uri)
    if store.is_local:
        return Path(store.root)
    found = store.filesystem.get_file_info(fs.FileSelector(store.root, allow_not_found=True))
    return _copied(store, found, cache)


def fetched_file(uri: str, cache: Path) -> Path:
    """The same of one file."""
    store, name = place_of(uri)
    if store.is_local:
        return Path(store.path(name))
    return _copied(store, [store.filesystem.get_file_info(store.path(name))], cache) / name


def _copied(store: RunDir, found: Iterable[fs.FileInfo], cache: Path) -> Path:
    files = sorted((each.base_name, each.size, each.mtime_ns) for each in found if each.type == fs.FileType.File)
    if not files:
        raise InputError("holds no files", file=store.uri.partition("?")[0])
    copy = cache / hashlib.sha256(repr((store.root, files)).encode()).hexdigest()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # Replicas of one host want the same copy at once: the first fetches it, and the others wait.
        with open(cache / f".{copy.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not copy.is_dir():
                _fetch(store, files, copy)
    except OSError as error:
        where = store.uri.partition("?")[0]
        raise RunError(f"{where}: cannot be fetched to {cache}: {error.strerror or error}") from error
    return copy


def _fetch(store: RunDir, files: list[tuple[str, int, int]], copy: Path) -> None:
    filling = copy.with_name(f".{copy.name}")
    shutil.rmtree(filling, ignore_errors=True)  # What a killed process had of it.
    filling.mkdir()
    for name, size, _ in files:
        store.fetch(name, filling / name)
        if (filling / name).stat().st_size != size:
            raise RunError(f"{store.path(name)}: changed while it was fetched; run the command again")
    os.rename(filling, copy)
