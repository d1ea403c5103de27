"""A control: as many experts as the run's own selection has, those that attacks visit most. Whether a selection is more
than a list of busy experts is seen beside it."""

from __future__ import annotations

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
class MostVisited(AsMany):
    """The experts with the highest activation rate on unsafe prompts; of equals the first by layer and expert."""

    reads = (RISK,)

    def choose(self, run: RunDir, inputs: Inputs, like: Sequence[Pair], seed: int) -> list[Pair]:
        """The experts with the highest known rates, as many as `like` has."""
        table = run.read_table(self.reads[0], ["layer", "expert", "a_unsafe_n"]).to_pylist()
        # A rate that is not known is none, and no number: nothing says that the expert is visited.
        rates = {(row["layer"], row["expert"]): row["a_unsafe_n"] for row in table if (row["a_unsafe_n"] or 0) > 0}
        return sorted(rates, key=lambda pair: (-rates[pair], pair))[: len(like)]


ARMS.add(selected_arm("most-visited", MostVisited("most_visited", "that attacks visit most"), by_train=False))
