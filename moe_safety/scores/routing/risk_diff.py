"""The risk difference: how much more of the unsafe tokens an expert gets than of the safe ones."""

from __future__ import annotations

import numpy as np

from moe_safety.config import SCORES
from moe_safety.scores.routing import RoutingScore
from moe_safety.scores.sums import SAFE, UNSAFE, Sums

UNIT = "share of the counted tokens"
SIGN = "more is guiltier: above 0 the attack reaches the expert more than plain goals do, below 0 less"


def difference(sums: Sums, more: int = UNSAFE, less: int = SAFE) -> np.ndarray:
    """[groups, experts]: the rate on one label minus that on the other."""
    return sums.rate(more) - sums.rate(less)


RISK_DIFF = SCORES.add(
    RoutingScore(
        name="risk_diff",
        title="Risk difference (unsafe − safe)",
        definition="Risk difference (activation rate on unsafe minus on safe prompts)",
        heading="Risk difference",
        unit=UNIT,
        sign=SIGN,
        formula=difference,
        column="risk_diff",
        interval=("low", "high"),
        default=True,
    )
)
