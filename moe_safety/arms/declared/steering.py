"""No training: tokens are kept away from the experts that routing selects."""

from __future__ import annotations

from moe_safety.arms.arm import Arm
from moe_safety.arms.choice import ByMethod
from moe_safety.config import ARMS

ARMS.add(
    Arm(
        "steering",
        "Nothing was trained: tokens are kept away from the experts that routing selects.",
        ByMethod("routing"),
    )
)
