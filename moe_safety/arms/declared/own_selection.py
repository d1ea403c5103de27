"""The run's own selection, the same for every batch: what the budget curve takes the first experts of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moe_safety.arms.choice import AsMany
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS

if TYPE_CHECKING:
    from moe_safety.identify import Pair
    from moe_safety.identify.inputs import Inputs
    from moe_safety.rundir import RunDir


@dataclass(frozen=True)
class OwnSelection(AsMany):
    """The experts of the run's own selection, best first; they stay what they are in every round, as a control's."""

    def choose(self, run: RunDir, inputs: Inputs, like: Sequence[Pair], seed: int) -> list[Pair]:
        """These very experts."""
        return list(like)


ARMS.add(selected_arm("own-selection", OwnSelection("own_selection", "of the run's own selection"), by_train=False))
