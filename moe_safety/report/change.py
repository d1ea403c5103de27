"""How far training moved each expert, read from the two checkpoints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import torch

from moe_safety.checkpoints import open_both
from moe_safety.errors import InputError
from moe_safety.identify import Pair

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def relative_change(
    base: Path, tuned: Path, experts: Collection[Pair] | None = None, *, trust_remote_code: bool = False
) -> dict[Pair, float]:
    """|tuned - base| / |base| of each expert's weights taken together (2-norms); of all experts unless some are named.

    Reads the rows of these experts alone, a few megabytes at a time.
    """
    both = open_both(base, tuned, trust_remote_code=trust_remote_code)
    moved: defaultdict[Pair, float] = defaultdict(float)
    size: defaultdict[Pair, float] = defaultdict(float)
    for name, owners in both.owners.experts.items():
        one, other = both.base.tensors[name], both.tuned.tensors[name]
        if one.form != other.form or one.dtype not in _TYPES:
            raise InputError(f"holds {name} in another form than the base", file=tuned)
        for row, expert in enumerate(owners):
            if expert is None or (experts is not None and expert not in experts):
                continue
            halves = (side.block(row, len(owners)).chunks() for side in (one, other))
            for here, there in zip(*halves, strict=True):
                before, after = (_numbers(data, one.dtype) for data in (here, there))
                moved[expert] += float((after - before).square().sum())
                size[expert] += float(before.square().sum())
    return {expert: (moved[expert] / size[expert]) ** 0.5 if size[expert] else 0.0 for expert in sorted(moved)}


def _numbers(data: bytes, dtype: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=_TYPES[dtype]).double()
