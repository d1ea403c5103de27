"""The effect of holding an expert back, measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_safety.config import SCORES
from moe_safety.scores.causal import EFFECTS, SIGN, UNIT
from moe_safety.scores.score import Score

if TYPE_CHECKING:
    import pandas as pd


def effect(table: pd.DataFrame) -> np.ndarray:
    """The effect on unsafe prompts, less that on control prompts where there are any."""
    return table["effect"].to_numpy(float)


EFFECT = SCORES.add(
    Score(
        name="effect",
        method="causal",
        title="Effect of holding the expert back",
        definition="Effect of holding the expert back on the refusal margin after attacks",
        heading="Effect",
        unit=UNIT,
        sign=SIGN,
        reads=EFFECTS,
        formula=effect,
        columns=("effect",),
        interval=("low", "high"),
        default=True,
        lowest=0.0,
    )
)
