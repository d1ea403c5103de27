"""The risk difference, the mean over batches in place of the pooled one."""

from __future__ import annotations

import numpy as np

from moe_safety.config import SCORES
from moe_safety.scores.routing import RoutingScore
from moe_safety.scores.routing.risk_diff import SIGN, UNIT, difference
from moe_safety.scores.sums import Sums


def mean_over_batches(batches: Sums) -> np.ndarray:
    """[1, experts]: over the batches that have a difference."""
    by_batch = difference(batches)
    defined = by_batch[~np.isnan(by_batch).any(axis=1)]
    return defined.mean(axis=0, keepdims=True) if len(defined) else np.full((1, by_batch.shape[1]), np.nan)


RISK_DIFF_MEAN = SCORES.add(
    RoutingScore(
        name="risk_diff_mean",
        title="Risk difference (unsafe − safe, mean over batches)",
        definition="Risk difference (unsafe minus safe, mean over batches)",
        heading="Mean over batches",
        unit=UNIT,
        sign=SIGN,
        formula=difference,
        over_batches=mean_over_batches,
        column="risk_diff_mean",
        batch_column="risk_diff",
    )
)
