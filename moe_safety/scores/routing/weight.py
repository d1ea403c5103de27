"""The difference in routing weight, in place of the activation rate."""

from __future__ import annotations

from moe_safety.config import SCORES
from moe_safety.scores.routing import RoutingScore
from moe_safety.scores.routing.risk_diff import SIGN, difference

WEIGHT = SCORES.add(
    RoutingScore(
        name="weight",
        title="Difference in routing weight (unsafe − safe)",
        definition="Difference in routing weight (unsafe minus safe)",
        heading="Routing weight",
        unit="mean routing weight of a counted token",
        sign=SIGN,
        formula=difference,
        sums="weights",
        column="risk_diff_weight",
        interval=("low_weight", "high_weight"),
    )
)
