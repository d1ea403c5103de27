"""The effect of holding an expert back, measured on unsafe prompts, less that on control prompts if there are any."""

from __future__ import annotations

from moe_safety.config import SCORES
from moe_safety.scores.causal import EFFECTS, SIGN, UNIT
from moe_safety.scores.score import Score, column

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
        formula=column("effect"),
        columns=("effect",),
        interval=("low", "high"),
        default=True,
        lowest=0.0,
    )
)
