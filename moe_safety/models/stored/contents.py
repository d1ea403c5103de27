"""What a checkpoint holds, as hashes of its tensors' bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from moe_safety.models.stored.checkpoint import Checkpoint, Stored, open_file
from moe_safety.rundir import in_threads, remembered

Contents = Mapping[str, str]
"""By tensor, the hash of its bytes."""


def content(tensor: Stored) -> str:
    """The hash of a tensor's bytes."""
    digest = hashlib.sha256()
    for chunk in tensor.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def contents_of(checkpoint: Checkpoint) -> Contents:
    """The hashes of all its tensors. Those of a large file are remembered: a base is compared with every arm."""
    as_stored = {name: tensor.file for name, tensor in checkpoint.tensors.items() if type(tensor) is Stored}
    by_file = {file: remembered(file, "tensors", _of_file) for file in sorted(set(as_stored.values()))}
    others = [name for name in checkpoint.tensors if name not in as_stored]
    found = dict(zip(others, in_threads(lambda name: content(checkpoint.tensors[name]), others), strict=True))
    return found | {name: by_file[file][name] for name, file in as_stored.items()}


def checkpoint_digest(checkpoint: Checkpoint, contents: Contents, without: Collection[str] = ()) -> str:
    """What a checkpoint holds, however it is cut into files: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in checkpoint.tensors.items():
        if name not in without:
            digest.update(json.dumps([name, tensor.dtype, tensor.shape, contents[name]]).encode() + b"\n")
    return digest.hexdigest()


def _of_file(file: Path) -> dict[str, str]:
    tensors, _ = open_file(file)
    return dict(zip(tensors, in_threads(content, tensors.values()), strict=True))
