"""`compare`: which arms are trained and set beside the untouched base."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from moe_safety.config.base import Count, Section, resource
from moe_safety.config.names import ARMS
from moe_safety.config.registry import NameIn

_USUAL = [
    "base",
    "selective-routing",
    "selective-gradient",
    "selective-causal",
    "baseline",
    "random",
    "random-layer-matched",
    "steering",
]
_DRAWN = ["random", "random-layer-matched", "random-load-matched"]


class MarginsConfig(Section):
    """The section `compare.margins`: how far above the base's a figure of an arm may lie for the arm to count as
    equally useful. The headline's arm is chosen among those that keep the margins on validation goals; on test goals an
    arm is no worse than the base where the whole interval of the difference lies within."""

    over_refusal: float = Field(0.05, ge=0, le=1)
    """Of the share of harmless requests that are refused; an answer that nobody could read counts as a refusal."""
    over_refusal_control: float = Field(0.05, ge=0, le=1)
    """The same in the attack's wrapper."""
    benign_loss: float = Field(0.1, ge=0)
    """Of the loss of good answers to harmless requests, in nats per token."""
    tasks: float = Field(0.02, ge=0, le=1)
    """Of the share of a task's questions that are solved: how far below the base's. Tasks have no part in choices,
    which are made on validation goals."""


class CompareConfig(Section):
    """The section `compare`: the arms of a comparison, and their seeds."""

    arms: list[Annotated[str, NameIn(ARMS)]] = Field(default_factory=lambda: list(_USUAL))
    """The arms, all on the same batches and schedule. `base` always comes first, named or not; `+router` adds a router
    phase, `baseline` trains every parameter, and `steering` trains none: it keeps tokens away from the experts that
    `routing` selects. An empty list compares nothing."""
    seeds: list[int] = Field(default_factory=list)
    """Further seeds, with each of which every arm is trained once more; the spread is reported."""
    budgets: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Numbers of experts, such as 1, 2, 4, 8: the first so many of the run's own selection are repaired, and as many
    that chance draws. The selection has to have as many."""
    draws: int = Field(2, ge=1)
    """Draws of each kind at each budget. That the choice matters is said with 19 or more."""
    draws_of: list[Annotated[str, NameIn(ARMS)]] = Field(default_factory=lambda: list(_DRAWN))
    """The kinds of draw: anywhere, in the same layers, and in the same layers of the same load, the one that settles
    whether the choice matters."""
    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    """Rates, usually three, with each of which every arm is trained once, for the experts' phase. An arm's own rate is
    then the one that does best on validation goals at the margins; without any, all have `train.learning_rate`."""
    margins: MarginsConfig = MarginsConfig()
    parallel: Count = resource("auto")
    """Arms trained at the same time; `auto` takes as many as the cluster has room for, and 1 trains them one by one in
    the command's own process."""

    @model_validator(mode="after")
    def _each_once(self) -> CompareConfig:
        if len(set(self.arms)) < len(self.arms):
            raise ValueError("an arm is named twice")
        if len(set(self.draws_of)) < len(self.draws_of) or not self.draws_of:
            raise ValueError("draws_of are kinds of draw, one or more, each once")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds, default=0) < 0:
            raise ValueError("seeds are numbers from 0 up, each once")
        if len(self.budgets) == 1 or sorted(set(self.budgets)) != self.budgets:
            raise ValueError("budgets are several, from the smallest to the largest")
        if len(self.learning_rates) == 1 or len(set(self.learning_rates)) < len(self.learning_rates):
            raise ValueError("learning_rates are several, each once; one alone is train.learning_rate")
        return self
