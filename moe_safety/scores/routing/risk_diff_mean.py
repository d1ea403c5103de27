"""The risk difference, the mean over batches in place of the pooled one."""

from __future__ import annotations

from moe_safety.config import SCORES
from moe_safety.scores.routing import RoutingScore
from moe_safety.scores.routing.risk_diff import SIGN, UNIT, difference

RISK_DIFF_MEAN = SCORES.add(
    RoutingScore(
        name="risk_diff_mean",
        title="Risk difference (unsafe − safe, mean over batches)",
        definition="Risk difference (unsafe minus safe, mean over batches)",
        heading="Mean over batches",
        unit=UNIT,
        sign=SIGN,
        formula=difference,
        averaged=True,
        column="risk_diff_mean",
        batch_column="risk_diff",
    )
)
