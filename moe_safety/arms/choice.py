"""How an arm's experts are chosen: by a method of `identify`, or as a control of the run's own selection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from moe_safety.config import BY_CHANCE, Config, IdentifyConfig
from moe_safety.errors import InputError

if TYPE_CHECKING:
    from moe_safety.identify import Pair
    from moe_safety.identify.inputs import Inputs
    from moe_safety.rundir import RunDir


class Choice(Protocol):
    """Chooses experts. Where its method is the run's own, `identify` has made the selection already."""

    @property
    def method(self) -> str:
        """What `selection.json` calls it."""
        ...

    @property
    def words(self) -> str:
        """What follows "experts" in a sentence."""
        ...

    @property
    def controls(self) -> Literal["experts", "masks"] | None:
        """What it controls for: the experts of the run's own selection, or the masks that batches have by its method;
        nothing where it is chosen for its own sake. A control stays what it is in every round."""
        ...

    @property
    def is_drawn(self) -> bool:
        """Whether another seed gives other experts."""
        ...

    def settings(self, own: IdentifyConfig) -> IdentifyConfig:
        """What the arm identifies with, from what the run does."""
        ...

    def rule(self, settings: IdentifyConfig) -> dict[str, Any]:
        """What its selection says of how it was made."""
        ...

    def select(self, config: Config, place: str, *, force: bool) -> None:
        """Makes the selection in `selections/PLACE/`."""
        ...


@dataclass(frozen=True)
class ByMethod:
    """What a method selects that ranks experts."""

    method: str
    controls = None
    is_drawn = False

    @property
    def words(self) -> str:
        """What follows "experts" in a sentence."""
        return f"that {self.method} selects"

    def settings(self, own: IdentifyConfig) -> IdentifyConfig:
        """The run's own, or the method's own first choice of scores: others have units of their own."""
        return own if own.method == self.method else _of_method(own, self.method)

    def rule(self, settings: IdentifyConfig) -> dict[str, Any]:
        """The settings that its selection says it was made by."""
        return _rule(settings)

    def select(self, config: Config, place: str, *, force: bool) -> None:
        from moe_safety.identify.stage import select_by

        select_by(config, place, force=force)


@dataclass(frozen=True)
class Permuted:
    """What a method selects that ranks experts, each batch's mask given to another batch: a control of what masks of
    their own bring to batches."""

    by: str
    controls: ClassVar[Literal["masks"]] = "masks"
    is_drawn = True

    @property
    def method(self) -> str:
        return f"{self.by}_permuted"

    @property
    def words(self) -> str:
        return f"that {self.by} selects for another batch"

    def settings(self, own: IdentifyConfig) -> IdentifyConfig:
        """What the arm of the method itself identifies with."""
        return ByMethod(self.by).settings(own)

    def rule(self, settings: IdentifyConfig) -> dict[str, Any]:
        return _rule(settings) | {"method": self.method}

    def select(self, config: Config, place: str, *, force: bool) -> None:
        """Writes the method's selection with its masks permuted by the seed."""
        from moe_safety.identify.stage import select_permuted

        if config.train.masking == "union":
            raise InputError("union trains every mask in each batch, so none can be exchanged", key="train.masking")
        select_permuted(config, place, self.rule(config.identify), force=force)


@dataclass(frozen=True)
class AsMany(ABC):
    """As many experts as the run's own selection has, the same for each batch: a control of it."""

    method: str
    words: str
    controls: ClassVar[Literal["experts"]] = "experts"
    is_drawn = False
    reads: ClassVar[tuple[str, ...]] = ()
    """What `choose` reads of the run directory, beside the run's own selection."""
    settles: ClassVar[bool] = False
    """Whether enough draws of it, all of them worse, show that the choice of experts matters."""

    def settings(self, own: IdentifyConfig) -> IdentifyConfig:
        """The run's own settings."""
        return own

    def rule(self, settings: IdentifyConfig) -> dict[str, Any]:
        return _rule(settings) | {
            "method": self.method,
            "score": None,
            "threshold": None,
            "matches": None,
            "masks": None,
        }

    def select(self, config: Config, place: str, *, force: bool, budget: int | None = None) -> None:
        """Writes the selection of the experts that `choose` gives; with a budget for the first so many of the run's
        own."""
        from moe_safety.identify.stage import select_control

        def choose(run: RunDir, inputs: Inputs, like: Sequence[Pair]) -> list[Pair]:
            return self.choose(run, inputs, like[:budget], config.seed)

        rule, seed = self.rule(config.identify), config.seed if self.is_drawn else None
        select_control(config, place, rule, choose, seed=seed, reads=self.reads, force=force)

    @abstractmethod
    def choose(self, run: RunDir, inputs: Inputs, like: Sequence[Pair], seed: int) -> list[Pair]:
        """The experts that stand for those of the run's own selection."""


@dataclass(frozen=True)
class Drawn(AsMany):
    """Drawn by chance, as `identify` draws by this method."""

    is_drawn = True

    def settings(self, own: IdentifyConfig) -> IdentifyConfig:
        """The run's own settings, or those of drawing by this method."""
        if own.method == self.method:
            return own
        matched = {"matches": own.method} if BY_CHANCE[self.method].in_each_layer else {}
        return _of_method(own, self.method, **matched)

    def rule(self, settings: IdentifyConfig) -> dict[str, Any]:
        return _rule(settings)

    def choose(self, run: RunDir, inputs: Inputs, like: Sequence[Pair], seed: int) -> list[Pair]:
        """Experts drawn by chance with this seed."""
        from moe_safety.identify import draw_like

        return draw_like(like, self.method, inputs.experts, inputs.batch_rows.batch_ids, seed)[0]


def _rule(settings: IdentifyConfig) -> dict[str, Any]:
    from moe_safety.identify.stage import rule

    return rule(settings)


def _of_method(own: IdentifyConfig, method: str, **more: str) -> IdentifyConfig:
    return own.model_copy(update={"method": method, "score": None, "min_score": None, **more})
