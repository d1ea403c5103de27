"""The mean absolute gradient over an expert's parameters, the mean over batches, as the stage folds them."""

from __future__ import annotations

from moe_safety.config import SCORES
from moe_safety.scores.gradient import GRADIENTS, SIGN, UNIT
from moe_safety.scores.score import Score, column

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
        formula=column("gradient"),
        columns=("gradient",),
        form=".2e",
        default=True,
    )
)
