"""Every parameter trains, on the same batches and schedule."""

from __future__ import annotations

from moe_safety.arms.arm import Arm
from moe_safety.arms.parameters import everything
from moe_safety.config import ARMS

ARMS.add(
    Arm(
        "baseline",
        "Every parameter was trained on the mixed batches, as a baseline.",
        phases=("experts",),
        trains=everything,
        optimizer="adamw",
        may_change=frozenset({"everything"}),
        by_train=True,
        training_mode="full_model_baseline",
    )
)
