"""What an arm is: one way of hardening, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import field_validator

from moe_safety.arms.choice import Choice
from moe_safety.arms.parameters import PARTS, SIZED, Asked, Trains, routers, selected_experts
from moe_safety.config import ARMS, LOSSES, Config, NameIn, Section

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from moe_safety.models import MoELayout
    from moe_safety.models.experts import Gather, Pair

Phase = Literal["experts", "router"]
SELECTED = "experts"
"""What an arm may change where that is the experts that it selects."""


class OfArm(Section):
    """Settings of an arm that is a way of training, whatever it trains."""

    takes_experts_alone: ClassVar[bool] = False

    experts: Annotated[str, NameIn(ARMS)] | None = None
    """The arm whose experts it trains in place of its own, such as `selective-routing`, or `baseline` for every
    parameter; with `+router` the routers follow."""

    @field_validator("experts")
    @classmethod
    def _can_be_trained(cls, name: str | None) -> str | None:
        of = None if name is None else ARMS.get(name)
        if of and ("experts" not in of.phases or of.section or of.loss != "answers"):
            raise ValueError(f"the arm '{name}' is no choice of what to train by the loss of answers")
        if of and cls.takes_experts_alone and of.trains is not selected_experts:
            raise ValueError(f"the arm '{name}' selects no experts")
        return name


@dataclass(frozen=True)
class Arm:
    """One way of hardening. Its phases follow one another in every round: the `experts` phase trains what `trains` says
    by its loss, the `router` phase the routers. An arm without phases trains nothing: it keeps tokens away from its
    experts, if it has some."""

    name: str
    says: str
    """In a sentence, what was done; `{masking}` and `{rounds}` stand for the configuration's."""
    choice: Choice | None = None
    """How its experts are chosen; none where it has no experts of its own."""
    phases: tuple[Phase, ...] = ()
    trains: Trains | None = None
    """What the `experts` phase trains; none where there is no such phase."""
    loss: str = "answers"
    """The loss of the `experts` phase."""
    optimizer: Literal["lazy", "adamw"] = "lazy"
    """That of the `experts` phase: AdamW that leaves alone what has no gradient, or ordinary AdamW."""
    may_change: frozenset[str] = frozenset()
    """What `verify` lets differ: the selection's `experts`, and whole `PARTS` of a model; with `everything` there is
    nothing to verify."""
    by_train: bool = False
    """Whether `train` runs it where the configuration says its method and phases."""
    training_mode: str = ""
    """What the earlier scripts' metadata call it."""
    section: type[Section] | None = None
    """Settings of its own, for its loss: `arms.NAME`."""

    def __post_init__(self) -> None:
        if set(self.name) & set("./"):
            raise ValueError(f"the arm '{self.name}' cannot be the name of a folder and of a manifest")
        if unknown := sorted(self.may_change - PARTS.keys() - {SELECTED}):
            raise ValueError(f"the arm '{self.name}' may change {unknown[0]}, which is no part of a model")

    @property
    def method(self) -> str | None:
        """The method by which its experts are chosen, if it has experts of its own."""
        return self.choice.method if self.choice else None

    @property
    def experts_phase(self) -> tuple[object, ...]:
        """All that is declared of the `experts` phase."""
        return self.choice, self.trains, self.loss, self.optimizer, self.section

    @property
    def hardens(self) -> bool:
        """Whether it is anything but the untouched model."""
        return bool(self.phases or self.choice)

    @property
    def is_control(self) -> bool:
        """Whether it is there to refute another arm: its experts or their masks are given by no method that ranks."""
        return self.choice is not None and self.choice.controls is not None

    @property
    def repairs(self) -> bool:
        """Whether it trains experts that a method selected."""
        return bool(self.phases) and self.choice is not None and not self.is_control

    @property
    def parts(self) -> frozenset[str]:
        """The whole parts of a model that it may change."""
        return self.may_change - {SELECTED}

    @property
    def reads_selection(self) -> bool:
        """Whether it reads a selection: its own, or the run's, which what it trains is as large as."""
        return self.choice is not None or bool(self.parts & SIZED.keys())

    @property
    def has_delta(self) -> bool:
        """Whether what it changes fits a delta, which holds experts and routers."""
        return self.parts <= {"routers"}

    @property
    def trains_all(self) -> bool:
        """Whether every parameter may move."""
        return "everything" in self.may_change

    @property
    def has_repeats(self) -> bool:
        """Whether further seeds say more of it: training hangs on the seed."""
        return bool(self.phases)

    def on(self, name: str | None) -> Arm:
        """The same way of training, of what the arm of this name trains; itself where none is named."""
        if name is None:
            return self
        way: dict[str, Any] = {"name": self.name, "loss": self.loss, "section": self.section, "by_train": self.by_train}
        if self.trains is not selected_experts:
            way |= {"trains": self.trains, "training_mode": self.training_mode}
        return replace(ARMS.get(name), **way)

    def experts_of(self, config: Config) -> str | None:
        """The arm whose experts it trains by its settings; none where these are its own."""
        own = ARMS.settings(config.arms, self.name)
        return own.experts if isinstance(own, OfArm) else None

    def of(self, config: Config) -> Arm:
        """What it is with its settings."""
        return self.on(self.experts_of(config))

    def asked(self, config: Config, layout: MoELayout, experts: Sequence[Pair], gather: Gather | None = None) -> Asked:
        """What it asks to train of these experts."""
        return Asked(layout, experts, gather, ARMS.settings(config.arms, self.name), config.seed)

    def size(self, config: Config, model: PreTrainedModel, layout: MoELayout, experts: Sequence[Pair]) -> int:
        """How many parameters its first phase trains; the model may be empty, on the meta device."""
        from moe_safety.models.experts import as_they_are

        asked = self.asked(config, layout, experts, as_they_are if config.train.zero_stage == 3 else None)
        with (self.trains or routers)(model, asked) as trained:
            return sum(parameter.numel() for parameter in trained.parameters.values())

    def note(self, config: Config) -> str:
        """The sentence on what was done, with this configuration."""
        train = config.train
        rounds = f"{train.num_rounds} rounds" if train.num_rounds > 1 else "one round"
        return self.says.format(masking=train.masking, rounds=rounds)

    def training(self, config: Config) -> dict[str, Any]:
        """What it changes of `train`. Where every parameter trains there is no mask, and no routing to keep. Routers
        that train alone take as many steps as others do."""
        alone = {"num_epochs": config.train.num_epochs} if self.phases == ("router",) else {}
        router = config.train.router.model_copy(update={"enabled": "router" in self.phases, **alone})
        if self.trains_all:
            return {"mode": "baseline", "router": router, "masking": "gradient", "routing": "frozen"}
        return {"mode": "selective", "router": router}

    def decides(self, config: Config) -> Mapping[str, Any]:
        """Its own settings, where it takes some."""
        own = ARMS.settings(config.arms, self.name)
        given = own.model_dump(mode="json", exclude_none=True) if own else {}
        return {"arm": given} if given else {}

    def identity(self, config: Config) -> dict[str, str]:
        """What it depends on of other packages."""
        of = self.experts_of(config)
        return {**ARMS.identity(self.name), **LOSSES.identity(self.loss), **(ARMS.identity(of) if of else {})}
