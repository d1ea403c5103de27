"""The mean absolute gradient by the tokens that an expert received."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_safety.config import SCORES
from moe_safety.scores.gradient import GRADIENTS, SIGN, UNIT
from moe_safety.scores.score import Score

if TYPE_CHECKING:
    import pandas as pd


def gradient_per_token(table: pd.DataFrame) -> np.ndarray:
    """The gradients of all batches together over the tokens that the expert received."""
    return table["gradient_per_token"].to_numpy(float)


GRADIENT_PER_TOKEN = SCORES.add(
    Score(
        name="gradient_per_token",
        method="gradient",
        title="Mean absolute gradient per token",
        definition="Mean absolute gradient per token",
        heading="Gradient per token",
        unit=f"{UNIT}, by token",
        sign=SIGN,
        reads=GRADIENTS,
        formula=gradient_per_token,
        columns=("gradient_per_token",),
        per_batch=True,
        form=".2e",
    )
)
