"""An arm: the experts that routing selects, trained by the focal loss."""

from __future__ import annotations

from moe_safety.arms import Arm, ByMethod
from moe_safety.arms.parameters import selected_experts
from moe_safety_example.loss import Focus

SELECTIVE_FOCAL = Arm(
    "selective-focal",
    "Only the experts selected by routing were trained, by the focal loss, in {rounds}; everything else is "
    "bit-identical to the base.",
    ByMethod("routing"),
    phases=("experts",),
    trains=selected_experts,
    loss="focal",
    may_change=frozenset({"experts"}),
    training_mode="selective_experts",
    section=Focus,
)
