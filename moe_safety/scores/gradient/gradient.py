"""The mean absolute gradient over an expert's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_safety.config import SCORES
from moe_safety.scores.gradient import GRADIENTS, SIGN, UNIT
from moe_safety.scores.score import Score

if TYPE_CHECKING:
    import pandas as pd


def gradient(table: pd.DataFrame) -> np.ndarray:
    """The mean over batches, as the stage folds them."""
    return table["gradient"].to_numpy(float)


GRADIENT = SCORES.add(
    Score(
        name="gradient",
        method="gradient",
        title="Mean absolute gradient",
        definition="Mean absolute gradient",
        heading="Gradient",
        unit=UNIT,
        sign=SIGN,
        reads=GRADIENTS,
        formula=gradient,
        columns=("gradient",),
        per_batch=True,
        form=".2e",
        default=True,
    )
)
