"""The root of the mean squared gradient over an expert's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from moe_safety.config import SCORES
from moe_safety.scores.gradient import GRADIENTS, SIGN, UNIT
from moe_safety.scores.score import Score

if TYPE_CHECKING:
    import pandas as pd


def gradient_l2(table: pd.DataFrame) -> np.ndarray:
    """The mean over batches, as the stage folds them."""
    return table["gradient_l2"].to_numpy(float)


GRADIENT_L2 = SCORES.add(
    Score(
        name="gradient_l2",
        method="gradient",
        title="Root of the mean squared gradient",
        definition="Root of the mean squared gradient",
        heading="Gradient",
        unit=UNIT,
        sign=SIGN,
        reads=GRADIENTS,
        formula=gradient_l2,
        columns=("gradient_l2",),
        per_batch=True,
        form=".2e",
    )
)
