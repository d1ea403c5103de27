"""The effect of holding an expert back, foreseen from one backward pass; less that on control prompts, if any."""

from __future__ import annotations

from moe_safety.config import SCORES
from moe_safety.scores.causal import EFFECTS, SIGN, UNIT
from moe_safety.scores.score import Score, column

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
        formula=column("first_order"),
        columns=("first_order",),
        lowest=0.0,
    )
)
