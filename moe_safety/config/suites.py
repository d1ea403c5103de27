"""`evaluate.suites`: sets of prompts with names, each with a row of its own in every table."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moe_safety.config.base import Section
from moe_safety.config.data import Source
from moe_safety.config.judges import JudgeOf, JudgeSettings, Question
from moe_safety.config.names import ARMS
from moe_safety.config.registry import NameIn

SuiteKind = Literal["attack", "harmful", "harmless", "harmless_in_wrapper"]
_HARMFUL: tuple[SuiteKind, ...] = ("attack", "harmful")


class SuiteConfig(Section):
    """A suite."""

    name: str = Field(pattern=r"^\w[\w.+-]*$")
    """What it is called in tables and in a gate."""
    source: Source
    """Its file or dataset, in any format that `data` takes. A conversation that ends in an assistant's turn is a
    prefill: the answer goes on from there."""
    kind: SuiteKind
    """`attack`: attack forms; `harmful`: goals asked plainly; `harmless`: requests that should be answered;
    `harmless_in_wrapper`: the same in an attack's wrapper."""
    refusal: Annotated[JudgeSettings, JudgeOf("refusal")] | None = None
    """Who judges refusal here, in place of `judges.refusal`."""
    harm: Annotated[JudgeSettings, JudgeOf("harm")] | None = None
    """The same of harm, where there is a `judges.harm`."""
    twin: str | None = None
    """Of an attack: the harmless suite whose over-refusal stands beside its success."""
    against: Annotated[str, NameIn(ARMS)] | None = None
    """Of an attack that a tool made against a repaired arm: which. All arms are asked it, and tables say so."""
    depths: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Of harmful suites whose rows record an answer: asks with the first so many tokens of it as a prefill, once for
    each of these numbers, in place of the rows as they are. Usual are 1, 3, 5, 10."""

    @property
    def judges(self) -> dict[Question, JudgeSettings]:
        """Its own judges."""
        named: dict[Question, JudgeSettings | None] = {"refusal": self.refusal, "harm": self.harm}
        return {question: settings for question, settings in named.items() if settings}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> SuiteConfig:
        if self.kind != "attack" and (self.twin or self.against):
            raise ValueError(f"`{'twin' if self.twin else 'against'}` is for suites of the kind attack")
        if self.kind not in _HARMFUL and (self.harm or self.depths):
            raise ValueError(f"`{'harm' if self.harm else 'depths'}` is for suites of harmful goals")
        if len(set(self.depths)) < len(self.depths):
            raise ValueError("a depth is named twice")
        return self


def check_suites(suites: list[SuiteConfig]) -> None:
    """Each has a name of its own, and twins are harmless suites among them."""
    kinds = {suite.name: suite.kind for suite in suites}
    if len(kinds) < len(suites):
        raise ValueError("two suites have the same name")
    for suite in suites:
        if suite.twin is not None and kinds.get(suite.twin) not in ("harmless", "harmless_in_wrapper"):
            raise ValueError(f"the twin of {suite.name}, '{suite.twin}', is no harmless suite")
