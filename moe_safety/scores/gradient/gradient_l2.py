"""The root of the mean squared gradient over an expert's parameters, the mean over batches."""

from __future__ import annotations

from moe_safety.config import SCORES
from moe_safety.scores.gradient import GRADIENTS, SIGN, UNIT
from moe_safety.scores.score import Score, column

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
        formula=column("gradient_l2"),
        columns=("gradient_l2",),
        form=".2e",
    )
)
