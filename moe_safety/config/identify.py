"""`identify`: from counts, gradients and effects to a selection of experts."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from moe_safety.config.base import Section

RoutingScore = Literal["risk_diff", "risk_diff_mean", "risk_diff_control", "weight"]
GradientScore = Literal["gradient", "gradient_l2", "gradient_per_token"]
CausalScore = Literal["effect", "first_order"]
Ranking = Literal["routing", "gradient", "causal"]
"""The methods that rank experts by a score."""


class IdentifyConfig(Section):
    method: Literal["routing", "gradient", "causal", "random", "random_layer_matched"] = "causal"
    """`causal` ranks by what holding an expert back does to refusal: the default, since it finds planted experts best
    (docs/identification.md). `gradient` ranks by how much each expert would have to change, `routing` by risk
    difference; the random ones are controls."""
    score: RoutingScore | GradientScore | CausalScore | None = None
    """What the method ranks by. For `routing`: the pooled difference (`risk_diff`, its default), the mean over batches
    (`risk_diff_mean`), the difference less its value on harmless prompts (`risk_diff_control`), or the pooled
    difference of routing weights (`weight`). For `gradient`: `gradient` (default), `gradient_l2`, `gradient_per_token`.
    For `causal`: `effect` (default) or `first_order`."""
    threshold: float = Field(0.05, ge=-1, le=1)
    """For `routing`: only experts whose score lies strictly above."""
    min_score: float | None = None
    """For other methods: only experts whose score lies strictly above. Unless given, 0 for `causal`, so that no expert
    is selected that carries the refusal; all for `gradient`."""
    matches: Ranking = "causal"
    """For `random_layer_matched`: the method whose selection it has as many experts of each layer as; for `random` with
    `top_p`: as many of. In a comparison both random arms are matched to the run's own selection instead."""
    top_k: int = Field(50, ge=1)
    """At most this many experts, over all layers together; `random` takes exactly so many."""
    top_p: float | None = Field(None, gt=0, le=1)
    """In place of `top_k`: the fewest best experts that hold this share of all positive scores."""
    gradient_masks: Literal["accumulated", "per_batch"] = "accumulated"
    """For `gradient`: one selection for all batches, or each batch's own best."""
    bootstrap_rounds: int = Field(1000, ge=2)
    """Resamplings of goals behind each interval."""

    @property
    def by_chance(self) -> bool:
        """Whether experts are drawn."""
        return self.method in ("random", "random_layer_matched")

    @property
    def ranking(self) -> Ranking | None:
        """The method whose scores decide, for a draw as well, unless the number drawn is given; a share gives none."""
        if self.method == "random":
            return self.matches if self.top_p else None
        return self.matches if self.method == "random_layer_matched" else self.method

    @property
    def ranked_by(self) -> str:
        """The score in force."""
        return self.score or {"gradient": "gradient", "causal": "effect"}.get(self.ranking or "routing", "risk_diff")

    @property
    def lowest(self) -> float | None:
        """What that score must lie above."""
        if self.ranking == "routing":
            return self.threshold
        return 0.0 if self.min_score is None and self.ranking == "causal" else self.min_score

    @property
    def needs_routing(self) -> bool:
        """Whether the selection follows from routing counts."""
        return self.ranking == "routing"

    @property
    def routing_score(self) -> str:
        """What the routing tables are ranked and drawn by, whatever the method."""
        return self.ranked_by if self.ranked_by in get_args(RoutingScore) else "risk_diff"

    @model_validator(mode="after")
    def _score_fits(self) -> IdentifyConfig:
        method = self.ranking or "routing"
        scores = {"gradient": GradientScore, "causal": CausalScore}.get(method, RoutingScore)
        if self.ranked_by not in get_args(scores):
            raise ValueError(f"score {self.score} is none of {method}'s: {', '.join(get_args(scores))}")
        return self
