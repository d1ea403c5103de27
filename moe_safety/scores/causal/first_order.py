"""The effect of holding an expert back, foreseen from one backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_safety.config import SCORES
from moe_safety.scores.causal import EFFECTS, SIGN, UNIT
from moe_safety.scores.score import Score

if TYPE_CHECKING:
    import pandas as pd


def first_order(table: pd.DataFrame) -> np.ndarray:
    """The estimate on unsafe prompts, less that on control prompts where there are any."""
    return table["first_order"].to_numpy(float)


FIRST_ORDER = SCORES.add(
    Score(
        name="first_order",
        method="causal",
        title="Effect of holding the expert back, first-order estimate",
        definition="Effect of holding the expert back on the refusal margin after attacks, first-order estimate",
        heading="Effect (first order)",
        unit=UNIT,
        sign=SIGN,
        reads=EFFECTS,
        formula=first_order,
        columns=("first_order",),
        lowest=0.0,
    )
)
