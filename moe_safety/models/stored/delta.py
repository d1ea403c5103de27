"""A delta's file: the bits in which a tuned checkpoint differs from its base, tied to both by their digests.

Each tensor is the exclusive or of two bit patterns, so that applying it once gives the tuned checkpoint and applying it
again gives the base. Where a tensor holds many experts, only the rows of those that changed are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from moe_safety.errors import InputError
from moe_safety.models.stored.checkpoint import Checkpoint, Stored, open_file
from moe_safety.models.stored.contents import checkpoint_digest, contents_of
from moe_safety.models.stored.patched import Mixed, Patched

KIND = "moe-safety delta 1"


@dataclass(frozen=True)
class Delta:
    """What a delta file says."""

    file: Path
    tensors: Mapping[str, Stored]
    """By the name of the tensor that changed."""
    rows: Mapping[str, list[int]]
    """Where a tensor holds many experts, the rows that changed; other tensors are there whole."""
    base: str
    """The digests of the two checkpoints that it stands between."""
    tuned: str
    left_out: frozenset[str]
    """Tensors that the digests leave out."""

    def changes(self, name: str, checkpoint: Checkpoint) -> list[tuple[Stored, Stored]]:
        """The parts of the checkpoint's tensor that change, each with its bits."""
        tensor, bits, rows = checkpoint.tensors.get(name), self.tensors[name], self.rows.get(name)
        if tensor and rows is None and bits.size == tensor.size:
            return [(tensor, bits)]
        if tensor and rows and bits.shape[1:] == tensor.shape[1:] and bits.width == tensor.width:
            of = tensor.shape[0]
            if bits.shape[0] == len(rows) and set(rows) <= set(range(of)):
                return [(tensor.block(row, of), bits.block(at, len(rows))) for at, row in enumerate(rows)]
        raise InputError(f"does not fit {name} of {checkpoint.folder}", file=self.file)


def read_delta(file: str | Path) -> Delta:
    """The delta in `file`, its bits still unread."""
    file = Path(file)
    tensors, metadata = open_file(file)
    try:
        if metadata["kind"] != KIND:
            raise KeyError("kind")
        rows = {str(name): [int(row) for row in its] for name, its in json.loads(metadata["rows"]).items()}
        left_out = frozenset(json.loads(metadata["left_out"]))
        return Delta(file, tensors, rows, metadata["base"], metadata["tuned"], left_out)
    except (KeyError, ValueError, TypeError, AttributeError):
        raise InputError("is not a delta", file=file) from None


def check_base(base: Checkpoint, delta: Delta) -> None:
    """Refuses a delta that was made from another checkpoint."""
    if checkpoint_digest(base, contents_of(base), delta.left_out) != delta.base:
        raise InputError(f"is not the checkpoint that {delta.file} is for", file=base.folder)


def with_delta(base: Checkpoint, delta: Delta) -> Checkpoint:
    """The tuned checkpoint, read as the base's tensors with the bits that changed."""
    tensors = {name: tensor for name, tensor in base.tensors.items() if name not in delta.left_out}
    for name in delta.tensors:
        flipped = [Mixed.of(own, bits, flip) for own, bits in delta.changes(name, base)]
        rows = delta.rows.get(name)
        tensors[name] = Patched.of(base.tensors[name], dict(zip(rows, flipped, strict=True))) if rows else flipped[0]
    return Checkpoint(base.folder, dict(sorted(tensors.items())))


def flip(one: bytes, other: bytes) -> bytes:
    """The exclusive or of two runs of bytes."""
    import numpy as np

    return np.bitwise_xor(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)).tobytes()
