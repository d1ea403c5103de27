"""One part of the model trains and no routed expert: whether it has to be experts is seen beside these."""

from __future__ import annotations

from moe_safety.arms.arm import Arm
from moe_safety.arms.parameters import SIZED_ATTENTION, whole
from moe_safety.config import ARMS

ARMS.add(
    Arm(
        "attention",
        "Only attention was trained, in {rounds}: that of the layers with most of the run's own selection, as many as "
        "come nearest to its number of parameters; everything else is bit-identical to the base.",
        phases=("experts",),
        trains=whole(SIZED_ATTENTION),
        optimizer="adamw",
        may_change=frozenset({SIZED_ATTENTION}),
        training_mode="attention",
    )
)

ARMS.add(
    Arm(
        "shared-experts",
        "Only shared experts were trained, all of them, in {rounds}; everything else is bit-identical to the base.",
        phases=("experts",),
        trains=whole("shared experts"),
        optimizer="adamw",
        may_change=frozenset({"shared experts"}),
        training_mode="shared_experts",
    )
)

ARMS.add(
    Arm(
        "router",
        "Only the routers were trained, in {rounds}; everything else is bit-identical to the base.",
        phases=("router",),
        may_change=frozenset({"routers"}),
        training_mode="routers",
    )
)
