"""A local copy of a folder that stands in a store, for libraries that read from disk alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path

from pyarrow import fs

from moe_safety.errors import InputError, RunError
from moe_safety.rundir.storage import RunDir


def fetched(uri: str, cache: Path) -> Path:
    """The copy of `uri` in `cache`, made anew where the store's files have other names, sizes or times than it had."""
    store = RunDir(uri)
    if store.is_local:
        return Path(store.root)
    found = store.filesystem.get_file_info(fs.FileSelector(store.root, allow_not_found=True))
    files = sorted((each.base_name, each.size, each.mtime_ns) for each in found if each.type == fs.FileType.File)
    if not files:
        raise InputError("holds no files", file=uri.partition("?")[0])
    copy = cache / hashlib.sha256(repr((store.root, files)).encode()).hexdigest()
    if copy.is_dir():
        return copy
    filling = copy.with_name(f".{copy.name}.{uuid.uuid4().hex}")
    filling.mkdir(parents=True)
    try:
        for name, size, _ in files:
            store.fetch(name, filling / name)
            if (filling / name).stat().st_size != size:
                raise RunError(f"{store.path(name)}: changed while it was fetched; run the command again")
        if not copy.is_dir():
            os.rename(filling, copy)
    except OSError as error:
        raise RunError(f"{uri.partition('?')[0]}: cannot be fetched to {cache}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(filling, ignore_errors=True)
    return copy
