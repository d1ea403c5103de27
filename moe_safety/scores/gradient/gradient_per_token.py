"""The mean absolute gradient of all batches together, by the tokens that an expert received."""

from __future__ import annotations

from moe_safety.config import SCORES
from moe_safety.scores.gradient import GRADIENTS, SIGN, UNIT
from moe_safety.scores.score import Score, column

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
        formula=column("gradient_per_token"),
        columns=("gradient_per_token",),
        form=".2e",
    )
)
