"""Low-rank factors of all attention and of every expert (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from moe_safety.arms.arm import Arm
from moe_safety.arms.low_rank import LowRankSettings, low_rank_parts
from moe_safety.config import ARMS

PARTS = ("matrices of attention", "matrices of every expert")

ARMS.add(
    Arm(
        "lora",
        "Low-rank factors of all attention and of every expert were trained, and merged, in {rounds}; everything else "
        "is bit-identical to the base.",
        phases=("experts",),
        trains=low_rank_parts(*PARTS),
        optimizer="adamw",
        may_change=frozenset(PARTS),
        training_mode="low_rank",
        section=LowRankSettings,
    )
)
