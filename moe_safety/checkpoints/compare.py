"""Two checkpoints side by side, bit by bit: which parts of which tensors differ, and what each checkpoint is."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from moe_safety.checkpoints.folder import CHUNK, Checkpoint, Stored

Change = Mapping[int, int]
"""Of a tensor's blocks those that differ, and in how many values."""

Contents = Mapping[str, str]
"""By tensor, the hash of its bytes."""


@dataclass(frozen=True)
class Comparison:
    """The difference between two checkpoints, tensor by tensor."""

    changes: Mapping[str, Change]
    """By tensor; those of one form in both checkpoints whose bits differ."""
    base: Contents
    tuned: Contents


def compare(base: Checkpoint, tuned: Checkpoint, blocks_of: Callable[[str], int]) -> Comparison:
    """Reads both once. `blocks_of` says of how many equal parts along its first axis a tensor consists."""
    changes: dict[str, Change] = {}
    base_contents: dict[str, str] = {}
    tuned_contents: dict[str, str] = {}
    for name in sorted(base.tensors.keys() | tuned.tensors.keys()):
        one, other = base.tensors.get(name), tuned.tensors.get(name)
        if one and other and one.form == other.form:
            change, base_contents[name], tuned_contents[name] = _compare(one, other, blocks_of(name))
            if change:
                changes[name] = change
            continue
        if one:
            base_contents[name] = content(one)
        if other:
            tuned_contents[name] = content(other)
    return Comparison(changes, base_contents, tuned_contents)


def content(tensor: Stored) -> str:
    """The hash of a tensor's bytes."""
    digest = hashlib.sha256()
    for chunk in tensor.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def checkpoint_digest(checkpoint: Checkpoint, contents: Contents, without: Collection[str] = ()) -> str:
    """What a checkpoint holds, however it is cut into files: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in checkpoint.tensors.items():
        if name not in without:
            digest.update(json.dumps([name, tensor.dtype, tensor.shape, contents[name]]).encode() + b"\n")
    return digest.hexdigest()


def _compare(one: Stored, other: Stored, blocks: int) -> tuple[Change, str, str]:
    """Where two tensors of one form differ, and the hash of each."""
    change: Counter[int] = Counter()
    block_values = max(1, one.size // one.width // blocks)
    first = second = hashlib.sha256()
    for number, (here, there) in enumerate(zip(one.chunks(), other.chunks(), strict=True)):
        if here != there:
            if second is first:
                second = first.copy()
            places = number * (CHUNK // one.width) + _differences(here, there, one.width)
            found, times = np.unique(places // block_values, return_counts=True)
            change.update(dict(zip(found.tolist(), times.tolist(), strict=True)))
        first.update(here)
        if second is not first:
            second.update(there)
    return change, first.hexdigest(), second.hexdigest()


def _differences(here: bytes, there: bytes, width: int) -> np.ndarray:
    """Which values differ as bit patterns: not-a-number differs from itself, and -0.0 from 0.0, as they do on disk."""
    as_integers = np.dtype(f"u{width}")
    return np.flatnonzero(np.frombuffer(here, as_integers) != np.frombuffer(there, as_integers))
