"""`identify`: from counts, gradients and effects to a selection of experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from moe_safety.config.base import Section
from moe_safety.config.names import SCORES
from moe_safety.config.registry import NameIn


@dataclass(frozen=True)
class Draw:
    """How a method draws experts."""

    says: str
    """What follows "experts" in a sentence."""
    in_each_layer: bool
    """Whether it draws as many in each layer as a selection has there, which it is always matched to."""


BY_CHANCE = {
    "random": Draw("drawn by chance", in_each_layer=False),
    "random_layer_matched": Draw(
        "drawn by chance, as many in each layer as what they are matched to", in_each_layer=True
    ),
}
"""The methods that draw experts, and how they do; the others rank them by scores, and are those that scores name."""


def _ranks(method: str) -> str:
    if not any(score.method == method for score in SCORES):
        raise ValueError(f"there is no method '{method}'. Known: {', '.join(_methods())}")
    return method


def _known(method: str) -> str:
    return method if method in BY_CHANCE else _ranks(method)


def _methods() -> list[str]:
    return [*dict.fromkeys(score.method for score in SCORES), *BY_CHANCE]


class IdentifyConfig(Section):
    """The section `identify`: how experts are ranked and selected."""

    method: Annotated[str, AfterValidator(_known)] = "causal"
    """`causal` ranks by what holding an expert back does to refusal: the default, since it finds planted experts best
    (docs/identification.md). `gradient` ranks by how much each expert would have to change, `routing` by risk
    difference; `random` and `random_layer_matched` are controls."""
    score: Annotated[str, NameIn(SCORES)] | None = None
    """What the method ranks by: one of its scores, which are listed below. Unless given, its default."""
    threshold: float = Field(0.05, ge=0, le=1)
    """For `routing`: only experts whose score lies strictly above. Below 0 are those that plain goals reach more."""
    min_score: float | None = None
    """For other methods: only experts whose score lies strictly above. Unless given, 0 for `causal`, so that no expert
    is selected that carries the refusal, and never less; all for `gradient`."""
    matches: Annotated[str, AfterValidator(_ranks)] = "causal"
    """For `random_layer_matched`: the method whose selection it has as many experts of each layer as; for `random` with
    `top_p`: as many of. In a comparison both random arms are matched to the run's own selection instead."""
    top_k: int = Field(50, ge=1)
    """At most this many experts, over all layers together; `random` takes exactly so many."""
    top_p: float | None = Field(None, gt=0, le=1)
    """In place of `top_k`: the fewest best experts that hold this share of all positive scores."""
    masks: Literal["global", "category", "batch"] | None = None
    """Which batches train the same experts: `global` all of them, `category` those of one category (of one value of
    `batches.group_by`, where batches are grouped by another column), `batch` none but by chance, since each has the
    best by its own scores. Unless given, `batch` for `routing` and `global` for other methods. Draws are global."""
    bootstrap_rounds: int = Field(1000, ge=2)
    """Resamplings of goals behind each interval."""

    @classmethod
    def _of_unknown(cls, key: str, value: Any, known: list[str]) -> str:
        today = {"accumulated": "global", "per_batch": "batch"}.get(value) if isinstance(value, str) else None
        if key == "gradient_masks" and today:
            return f"is `masks` now, for every method: write `masks: {today}`"
        return super()._of_unknown(key, value, known)

    @property
    def by_chance(self) -> bool:
        """Whether experts are drawn."""
        return self.method in BY_CHANCE

    @property
    def ranking(self) -> str | None:
        """The method whose scores decide, for a draw as well, unless the number drawn is given; a share gives none."""
        if not self.by_chance:
            return self.method
        return self.matches if self.top_p or BY_CHANCE[self.method].in_each_layer else None

    @property
    def ranked_by(self) -> str:
        """The score in force."""
        return self.score or _default_of(self.ranking or "routing")

    @property
    def lowest(self) -> float | None:
        """What that score must lie above."""
        lowest = SCORES.get(self.ranked_by).lowest if self.ranking else None
        if lowest == "threshold":
            return self.threshold
        return lowest if self.min_score is None else self.min_score

    @property
    def needs_routing(self) -> bool:
        """Whether the selection follows from routing counts."""
        return self.ranking is not None and _is_of_routing(SCORES.get(self.ranked_by))

    @property
    def mask_of(self) -> Literal["global", "category", "batch"]:
        """What has a mask of its own."""
        if self.by_chance:
            return "global"
        return self.masks or ("batch" if self.needs_routing else "global")

    @property
    def routing_score(self) -> str:
        """What the routing tables are ranked and drawn by, whatever the method."""
        return self.ranked_by if _is_of_routing(SCORES.get(self.ranked_by)) else _default_of("routing")

    @model_validator(mode="after")
    def _score_fits(self) -> IdentifyConfig:
        method = self.ranking or "routing"
        offered = SCORES.get(self.score).method if self.score else method
        if offered != method:
            names = ", ".join(score.name for score in SCORES if score.method == method)
            raise ValueError(f"score {self.score} is none of {method}'s: {names}")
        return self

    @model_validator(mode="after")
    def _guilty_sign_alone(self) -> IdentifyConfig:
        least = SCORES.get(self.ranked_by).lowest
        if self.min_score is not None and isinstance(least, float) and self.min_score < least:
            raise ValueError(f"min_score {self.min_score:g} is below {least:g}, where {self.ranked_by} finds no guilt")
        return self


def _default_of(method: str) -> str:
    """The first choice of a method's scores."""
    name: str = next(score.name for score in SCORES if score.method == method and score.default)
    return name


def _is_of_routing(score: Any) -> bool:
    return bool(score.reads.stage == "capture")
