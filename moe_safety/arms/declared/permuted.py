"""Controls: the experts that a method selects, each batch training the mask of another one. What masks of their own
bring to batches is seen beside them, and beside nothing else."""

from __future__ import annotations

from moe_safety.arms.choice import Permuted
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS

for method in ("routing", "gradient", "causal"):
    ARMS.add(selected_arm(f"selective-{method}-permuted", Permuted(method), by_train=False))
