"""Scores from routing counts: which experts the attack reaches more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from moe_safety.pipeline import RISK
from moe_safety.scores.score import Reads, Score
from moe_safety.scores.sums import SAFE, UNSAFE, Sums

if TYPE_CHECKING:
    import pandas as pd

    from moe_safety.config import Config


def _settings(config: Config) -> dict[str, Any]:
    from moe_safety.routing.capture import settings_of

    return settings_of(config)


ROUTING = Reads("capture", RISK, _settings)
"""`identify` sums the counts and makes the table of them."""


@dataclass(frozen=True, kw_only=True)
class RoutingScore(Score):
    """A score whose formula goes from sums of routed tokens to a value for each group and expert."""

    column: str
    """Of the tables that `identify` makes: where it puts the values."""
    sums: Literal["counts", "weights"] = "counts"
    """What is summed: tokens, or the weights that routers gave."""
    labels: tuple[int, ...] = (SAFE, UNSAFE)
    """Of the prompts that it compares."""
    over_batches: Callable[[Sums], np.ndarray] | None = None
    """From the sums of all batches to the aggregated score, where that is not the formula of the pooled sums."""
    batch_column: str = ""
    """The same of a batch's own, where that is another."""
    method: str = "routing"
    reads: Reads = ROUTING
    lowest: float | Literal["threshold"] | None = "threshold"

    @property
    def own_column(self) -> str:
        """Where the values of batches and categories stand."""
        return self.batch_column or self.column

    def of_table(self, table: pd.DataFrame) -> np.ndarray:
        """The values that `identify` put in the score's column."""
        return table[self.column].to_numpy(float)

    def aggregated(self, batches: Sums) -> np.ndarray:
        """[1, experts], of all batches together."""
        return self.over_batches(batches) if self.over_batches else self.formula(batches.pooled())
