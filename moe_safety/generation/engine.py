"""An engine: what answers prompts. What every engine does, and what some of them can do beside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from moe_safety.config import ENGINES, Config, EvaluateConfig, ModelConfig, RespondConfig, Section, results_only
from moe_safety.errors import InputError
from moe_safety.models.text import Answer, Limits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from moe_safety.models import MoELayout


class Ability(StrEnum):
    """What an engine may be able to do beside answering; the values say it in words."""

    AVOIDS_EXPERTS = "keep tokens away from experts"
    GIVES_LOSSES = "give the losses of given answers"
    LENDS_MODEL = "lend the model that it runs"
    SWAPS_DELTA = "swap a delta in"


class Engine(ABC):
    """A model that answers. Each subclass is a declaration: it names itself and what it can do, and its module imports
    neither torch nor Ray before it is opened."""

    name: ClassVar[str]
    abilities: ClassVar[frozenset[Ability]] = frozenset()
    section: ClassVar[type[Section] | None] = None
    """The class of its settings, which the configuration holds as `engines.NAME`; it gets them when it is opened."""
    prompts_per_item: ClassVar[int] = 64
    """The most prompts that an item gives it."""

    def __init__(self, model: ModelConfig, limits: Limits, gpus: int, settings: Any = None) -> None:
        """Opens it on a model, which may spread over so many GPUs and say so much."""
        from moe_safety.models.io import load_chat

        self.chat, self.limits = load_chat(model), limits

    @abstractmethod
    def answer(
        self, prompts: Sequence[Sequence[int]], temperatures: Sequence[float], seeds: Sequence[int]
    ) -> list[Answer]:
        """Each prompt's answer, within the limits. Temperature 0 is greedy. An answer depends on its prompt,
        temperature and seed alone, not on what else is answered beside it or before."""

    @classmethod
    def at_once(cls, settings: Any) -> int:
        """How many prompts, of several items too, it answers side by side, by its own settings; 1 where items gain
        nothing from each other."""
        return 1

    def holds(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Whether it answers all of these side by side, as it would answer each alone."""
        return False

    def avoiding(self, experts: Iterable[tuple[int, int]]) -> AbstractContextManager[None]:
        """Inside, no token is routed to these (layer, expert) pairs."""
        raise self.lacks(Ability.AVOIDS_EXPERTS)

    def losses(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of every token of the given answers, in order, and the row that it stands in."""
        raise self.lacks(Ability.GIVES_LOSSES)

    def swapping(self, delta: str) -> AbstractContextManager[None]:
        """Inside, the model is the one that the delta's file makes of it; outside it is what it was, to the bit."""
        raise self.lacks(Ability.SWAPS_DELTA)

    @property
    def model(self) -> PreTrainedModel:
        """The model that it runs, for whoever reads its routing or has it solve tasks."""
        raise self.lacks(Ability.LENDS_MODEL)

    @cached_property
    def layout(self) -> MoELayout:
        """Where that model keeps its experts."""
        from moe_safety.models import inspect_model

        return inspect_model(self.model)

    @classmethod
    def lacks(cls, ability: Ability, key: str | None = None) -> InputError:
        """The error for what it cannot do."""
        return InputError(f"the engine '{cls.name}' cannot {ability}", key=key)


@dataclass(frozen=True)
class Opening:
    """What engines of a job are opened on."""

    engine: str
    """The one that answers."""
    model: ModelConfig
    limits: Limits
    gpus: int
    settings: Mapping[str, Any]
    """Of engines by name, as plain data: a worker that lacks an engine says so, and cannot read its classes."""

    def open(self, name: str) -> Engine:
        """The engine of this name, on the model without its delta, which is swapped in."""
        kind, settings = self._declared(name)
        return kind(self.model.with_delta(None), self.limits, self.gpus, settings)

    @property
    def at_once(self) -> int:
        """How many prompts are answered side by side."""
        kind, settings = self._declared(self.engine)
        return kind.at_once(settings)

    def _declared(self, name: str) -> tuple[type[Engine], Any]:
        kind: type[Engine] = ENGINES.get(name)
        return kind, kind.section and kind.section.model_validate(self.settings.get(name, {}))


def opening_of(config: Config, settings: RespondConfig | EvaluateConfig, model: ModelConfig) -> Opening:
    """The opening that a stage's settings ask for."""
    own = {name: section.model_dump() for name, section in config.engines.items()}
    return Opening(settings.engine, model, limits_of(settings), settings.gpus_per_replica, own)


def limits_of(settings: RespondConfig | EvaluateConfig) -> Limits:
    """The limits of an answer, by a stage's settings."""
    return Limits(settings.max_new_tokens, settings.max_thinking_tokens)


def engine_settings(config: Config, name: str) -> dict[str, Any]:
    """The engine's own settings among those of a stage, if it takes any."""
    own = ENGINES.settings(config.engines, name)
    return {"engines": {name: results_only(own)}} if own is not None else {}


def check_able(name: str, ability: Ability, key: str) -> None:
    """Refuses, before anything is done with it, an engine that cannot do what is asked for; `key` names it."""
    if ability not in ENGINES.get(name).abilities:
        raise ENGINES.get(name).lacks(ability, key)
