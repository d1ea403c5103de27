"""`identify`: from counts to a selection of experts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moe_safety.config.base import Section


class IdentifyConfig(Section):
    method: Literal["routing", "random", "random_layer_matched"] = "routing"
    """`routing` ranks by risk difference; the random ones are controls of the same size."""
    score: Literal["risk_diff", "risk_diff_mean", "risk_diff_control", "weight"] = "risk_diff"
    """What `routing` ranks by: the pooled difference, the mean over batches, the difference less its value on harmless
    prompts (control minus benign), or the pooled difference of routing weights."""
    threshold: float = Field(0.05, ge=-1, le=1)
    """Only experts whose risk difference lies strictly above."""
    top_k: int = Field(50, ge=1)
    """At most this many experts, over all layers together."""
    top_p: float | None = Field(None, gt=0, le=1)
    """In place of `top_k`: the fewest best experts that hold this share of all positive scores."""
    bootstrap_rounds: int = Field(1000, ge=2)
    """Resamplings of goals behind each interval."""
