"""Controls: as many experts as the run's own selection has, drawn by chance; in each layer, for `random-layer-matched`.
With `+router` the routers train after them."""

from __future__ import annotations

from moe_safety.arms.choice import Drawn
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS

for kind in ("random", "random-layer-matched"):
    for router in (False, True):
        drawn = Drawn(kind.replace("-", "_"), "chosen at random")
        ARMS.add(selected_arm(f"{kind}+router" if router else kind, drawn, router=router))
