"""A control: as many experts in each layer as the run's own selection has, drawn by chance among those that attacks
visit about as much. Whether a selection is more than its layers and its load is seen beside it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_safety.arms.choice import AsMany
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS
from moe_safety.pipeline import RISK

if TYPE_CHECKING:
    from moe_safety.identify import Pair
    from moe_safety.identify.inputs import Inputs
    from moe_safety.rundir import RunDir


@dataclass(frozen=True)
class LoadMatched(AsMany):
    """For each selected expert another one of its layer and of its tenth of the attack-token share; of the nearest
    tenth where there is none. A selected one is drawn only where its layer has no other left."""

    is_drawn = leaves_choice_alone = True
    reads = (RISK,)

    def choose(self, run: RunDir, inputs: Inputs, like: Sequence[Pair], seed: int) -> list[Pair]:
        """The experts drawn with this seed, in the places of those in `like`."""
        table = run.read_table(self.reads[0], ["layer", "expert", "a_unsafe_n"]).to_pylist()
        loads = {(row["layer"], row["expert"]): row["a_unsafe_n"] or 0.0 for row in table}
        order = sorted(loads, key=lambda pair: (loads[pair], pair))
        tenth = {pair: 10 * place // len(order) for place, pair in enumerate(order)}
        chance, drawn = random.Random(f"{self.method}:{seed}"), list[tuple[int, int]]()
        for layer, expert in like:
            free = [pair for pair in sorted(loads) if pair[0] == layer and pair not in drawn]
            others = [pair for pair in free if pair not in like] or free
            apart = {pair: abs(tenth[pair] - tenth[layer, expert]) for pair in others}
            drawn.append(chance.choice([pair for pair in others if apart[pair] == min(apart.values())]))
        return drawn


ARMS.add(
    selected_arm(
        "random-load-matched",
        LoadMatched("random_load_matched", "chosen at random in the same layers and of the same load"),
        by_train=False,
    )
)
