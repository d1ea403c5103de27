"""Two checkpoints side by side, bit by bit: which parts of which tensors differ, and what each checkpoint is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from moe_safety.models.stored import Checkpoint, Stored, contents_of
from moe_safety.rundir import in_threads

Change = Mapping[int, int]
"""Of a tensor's blocks those that differ, and in how many values."""


@dataclass(frozen=True)
class Comparison:
    """The difference between two checkpoints, tensor by tensor."""

    changes: Mapping[str, Change]
    """By tensor; those of one form in both checkpoints whose bits differ."""
    base: Mapping[str, str]
    """By tensor, the hash of its bytes."""
    tuned: Mapping[str, str]


def compare(base: Checkpoint, tuned: Checkpoint, blocks_of: Callable[[str], int]) -> Comparison:
    """Hashes both, and reads again only what differs. `blocks_of` says of how many equal parts along its first axis a
    tensor consists."""
    before, after = contents_of(base), contents_of(tuned)

    def change(name: str) -> Change:
        return _change(base.tensors[name], tuned.tensors[name], blocks_of(name))

    shared = [name for name in base.tensors if name in after and before[name] != after[name]]
    alike = [name for name in shared if base.tensors[name].form == tuned.tensors[name].form]
    return Comparison(dict(zip(alike, in_threads(change, alike), strict=True)), before, after)


def _change(one: Stored, other: Stored, blocks: int) -> Change:
    """Where two tensors of one form differ."""
    change: Counter[int] = Counter()
    block, begin = max(1, one.size // one.width // blocks), 0
    for here, there in zip(one.chunks(), other.chunks(), strict=True):
        end = begin + len(here) // one.width
        if here != there:
            differ = _differences(here, there, one.width)
            for number in range(begin // block, -(-end // block)):
                part = differ[max(0, number * block - begin) : (number + 1) * block - begin]
                if found := np.count_nonzero(part):
                    change[number] += int(found)
        begin = end
    return change


def _differences(here: bytes, there: bytes, width: int) -> np.ndarray:
    """Which values differ as bit patterns: not-a-number differs from itself, and -0.0 from 0.0, as they do on disk."""
    as_integers = np.dtype(f"u{width}")
    return np.frombuffer(here, as_integers) != np.frombuffer(there, as_integers)
