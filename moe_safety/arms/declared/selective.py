"""The experts that a method selects train, and with `+router` the routers after them."""

from __future__ import annotations

from moe_safety.arms.choice import ByMethod
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS

for method in ("routing", "gradient", "causal"):
    for router in (False, True):
        name = f"selective-{method}{'+router' if router else ''}"
        ARMS.add(selected_arm(name, ByMethod(method), router=router))
