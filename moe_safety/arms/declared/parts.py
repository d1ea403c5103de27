"""One part of the model trains, all of it, and no routed expert: whether it has to be experts is seen beside these."""

from __future__ import annotations

from moe_safety.arms.arm import Arm
from moe_safety.arms.parameters import whole
from moe_safety.config import ARMS

for part in ("attention", "shared experts"):
    ARMS.add(
        Arm(
            part.replace(" ", "-"),
            f"Only {part} were trained, all of them, in {{rounds}}; everything else is bit-identical to the base.",
            phases=("experts",),
            trains=whole(part),
            optimizer="adamw",
            may_change=frozenset({part}),
            training_mode=part.replace(" ", "_"),
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
