"""The risk difference less what the odd format alone does."""

from __future__ import annotations

import numpy as np

from moe_safety.config import SCORES
from moe_safety.scores.routing import RoutingScore
from moe_safety.scores.routing.risk_diff import SIGN, UNIT, difference
from moe_safety.scores.sums import BENIGN, CONTROL, SAFE, UNSAFE, Sums


def control_adjusted(sums: Sums) -> np.ndarray:
    """[groups, experts]: (unsafe - safe) - (control - benign)."""
    return difference(sums) - difference(sums, CONTROL, BENIGN)


RISK_DIFF_CONTROL = SCORES.add(
    RoutingScore(
        name="risk_diff_control",
        title="Risk difference ((unsafe − safe) − (control − benign))",
        definition="Risk difference ((unsafe minus safe) minus (control minus benign))",
        heading="Control-adjusted",
        unit=UNIT,
        sign=f"{SIGN}. What the wrapper does to harmless requests is taken off",
        formula=control_adjusted,
        labels=(SAFE, UNSAFE, CONTROL, BENIGN),
        column="risk_diff_control",
        interval=("low_control", "high_control"),
    )
)
