"""Arms that train chosen experts and leave everything else as it is, to the bit."""

from __future__ import annotations

from moe_safety.arms.arm import Arm
from moe_safety.arms.choice import Choice
from moe_safety.arms.parameters import selected_experts


def selected_arm(
    name: str, choice: Choice, *, router: bool = False, loss: str = "answers", by_train: bool = True
) -> Arm:
    """One that trains these experts by a loss of their batches, and with `router` the routers after them."""
    after = " followed by a router phase" if router else ""
    return Arm(
        name,
        f"Only the experts selected by {choice.method} were trained, with {{masking}} masking, in {{rounds}}{after}; "
        "everything else is bit-identical to the base.",
        choice,
        phases=("experts", "router") if router else ("experts",),
        trains=selected_experts,
        loss=loss,
        may_change=frozenset({"experts", "routers"} if router else {"experts"}),
        by_train=by_train,
        training_mode=f"{choice.method}_experts" if choice.controls else "selective_experts",
    )
