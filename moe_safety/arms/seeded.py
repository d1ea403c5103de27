"""The arms of a comparison, each with its seeds, and the arm that `train` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from moe_safety.arms.arm import Arm, Phase
from moe_safety.arms.choice import AsMany
from moe_safety.config import ARMS, Config
from moe_safety.errors import InputError
from moe_safety.pipeline import SELECTION

_SEED = ".seed-"


@dataclass(frozen=True)
class SeededArm:
    """One arm with one seed."""

    kind: str
    """The arm's name."""
    name: str
    """What its folders are called: the arm's name, and the seed where it is a repeat."""
    config: Config
    """What it trains with."""
    place: str | None = None
    """Where in `selections/` its selection is; the run's own `selection.json` without one."""
    control_of: str | None = None
    """The arm that this one controls for, and has as many experts as."""

    @property
    def arm(self) -> Arm:
        """The declaration of the arm."""
        return ARMS.get(self.kind).of(self.config)

    @property
    def selection(self) -> str:
        """The name of its selection's file in the run directory."""
        return f"selections/{self.place}/{SELECTION}" if self.place else SELECTION

    @property
    def begins_as(self) -> str | None:
        """The name of the arm that trains the same experts in the same way, and no routers after them: what that one
        leaves is what this one's routers follow. Nothing where no arm does."""
        if self.arm.phases != ("experts", "router"):
            return None
        others = (arm.of(self.config) for arm in ARMS if arm.name != self.kind)
        same = self.arm.experts_phase
        alone = (arm.name for arm in others if arm.phases == ("experts",) and arm.experts_phase == same)
        kind = next(alone, None)
        return f"{kind}{self.name.removeprefix(self.kind)}" if kind else None

    def select(self, *, force: bool = False) -> None:
        """Makes its selection; `identify` made that of the run's own method, which controls are matched to."""
        if self.place and self.arm.choice:
            self.arm.choice.select(self.config, self.place, force=force)


def seeded_arms(config: Config, rates: Mapping[str, float] | None = None) -> list[SeededArm]:
    """The arms that the configuration names, but for the untouched model; behind them their repeats with further
    seeds. `rates` are the learning rates that were chosen for some, by their names."""
    arms = [arm.of(config) for arm in map(ARMS.get, config.compare.arms) if arm.hardens]
    repeats = [(arm, seed) for seed in training_seeds(config)[1:] for arm in arms if arm.has_repeats]
    named = [*((arm, None) for arm in arms), *repeats]
    return [_seeded(_at_rate(config, (rates or {}).get(arm.name)), arm, seed) for arm, seed in named]


@dataclass(frozen=True)
class BudgetArm(SeededArm):
    """An arm that trains the first experts of the run's own selection, or as many that stand for them."""

    budget: int = 0
    """How many."""
    draw: int = 0
    """Which draw it is, of an arm whose experts are drawn; else which of the training seeds."""

    def select(self, *, force: bool = False) -> None:
        """Makes its selection."""
        choice = self.arm.choice
        assert isinstance(choice, AsMany)
        choice.select(self.config, self.place or "", force=force, budget=self.budget)


CHOICE = "own-selection"
"""The arm of the budget curve that trains the run's own selection; the others stand for it by chance."""


def budget_arms(config: Config, rates: Mapping[str, float] | None = None) -> list[BudgetArm]:
    """The arms of the budget curve: the choice with each training seed for each budget, the others as often as there
    are draws. `rates` are learning rates that were chosen, by the arms' names; what has none of its own has that of the
    arm that trains the run's own selection."""
    found, known = [], rates or {}
    drawn = [config.seed + draw for draw in range(config.compare.draws)]
    for arm in (ARMS.get(CHOICE), *map(_draw, config.compare.draws_of)):
        assert arm.choice
        rate = known.get(arm.name, known.get(_control_of(config, arm) or ""))
        for budget in config.compare.budgets:
            for draw, seed in enumerate(drawn if arm.choice.is_drawn else training_seeds(config)):
                seeded = _at_rate(config, rate).model_copy(update={"seed": seed})
                settings = arm.choice.settings(config.identify)
                settings = settings.model_copy(update={"top_k": budget, "top_p": None})
                train = seeded.train.model_copy(update=arm.training(config))
                own = seeded.model_copy(update={"identify": settings, "train": train})
                name = f"{arm.name}{_SEED}{own.seed}-budget-{budget}"
                place = f"{arm.choice.method}{_SEED}{own.seed}-budget-{budget}"
                found.append(BudgetArm(arm.name, name, own, place, budget=budget, draw=draw))
    return found


def _draw(name: str) -> Arm:
    """The arm of a kind of draw."""
    arm = ARMS.get(name)
    if not isinstance(arm.choice, AsMany) or not arm.choice.is_drawn:
        raise InputError(f"{name} draws no experts in place of the selection's", key="compare.draws_of")
    return arm


def rate_trials(config: Config) -> dict[str, dict[float, list[SeededArm]]]:
    """Every arm that has an experts' phase, whose rate it is, with each of the learning rates that it is to be chosen
    from, and each training seed."""
    arms = [arm.of(config) for arm in map(ARMS.get, config.compare.arms) if "experts" in arm.phases]
    return {
        arm.name: {
            rate: [_trial(_at_rate(config, rate), arm, seed, place) for seed in training_seeds(config)]
            for place, rate in enumerate(config.compare.learning_rates, 1)
        }
        for arm in arms
    }


def training_seeds(config: Config) -> list[int]:
    """The run's own seed, and the further ones that arms are trained with."""
    return [config.seed, *(seed for seed in config.compare.seeds if seed != config.seed)]


def _trial(config: Config, arm: Arm, seed: int, place: int) -> SeededArm:
    seeded = _seeded(config, arm, None if seed == config.seed else seed)
    return replace(seeded, name=f"{arm.name}{_SEED}{seed}-rate-{place}")


def _at_rate(config: Config, rate: float | None) -> Config:
    if rate is None:
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": rate})})


def own_arm(config: Config) -> SeededArm:
    """What `train` trains with this configuration: what a comparison that names the same arm trains."""
    return _seeded(config, arm_of(config), None)


def arm_of(config: Config) -> Arm:
    """The arm that `train` runs with this configuration."""
    if named := config.train.arm:
        if not ARMS.get(named).phases:
            raise InputError(f"the arm '{named}' trains nothing", key="train.arm")
        return ARMS.get(named).of(config)
    method = config.identify.method if config.train.mode == "selective" else None
    phases: tuple[Phase, ...] = ("experts", "router") if config.train.router.enabled else ("experts",)
    return _arm_that_trains(method, phases)


def kind_of(name: str) -> str:
    """The name of the arm of which this names a folder."""
    return name.partition(_SEED)[0]


def told_of(arm: Mapping[str, Any]) -> Arm | None:
    """The declaration of an arm of `comparison.json`, with the experts that it trained; none where no such arm is
    known."""
    kind = kind_of(arm["arm"])
    return ARMS.get(kind).on(arm.get("experts_of")) if kind in ARMS else None


def _seeded(config: Config, arm: Arm, seed: int | None) -> SeededArm:
    name = arm.name if seed is None else f"{arm.name}{_SEED}{seed}"
    trained = config.train.model_copy(update=arm.training(config))
    seeded = config.model_copy(update={"train": trained} | ({} if seed is None else {"seed": seed}))
    choice = arm.choice
    if choice is None:
        return SeededArm(arm.name, name, seeded)
    own, method = choice.method == config.identify.method, choice.method
    place = f"{method}{_SEED}{seed}" if seed is not None and choice.is_drawn else None if own else method
    chosen = seeded.model_copy(update={"identify": choice.settings(config.identify)})
    return SeededArm(arm.name, name, chosen, place, _control_of(config, arm))


def _control_of(config: Config, arm: Arm) -> str | None:
    """The run's own arm; where that is the control itself, the arm of the method that it is matched to, if any. A
    control of masks has the experts of a method's own arm."""
    own, choice = config.identify, arm.choice
    if choice is None or choice.controls is None:
        return None
    if choice.controls == "masks":
        return _arm_that_trains(choice.settings(own).method, ("experts",)).name
    method = own.method if choice.method != own.method else own.ranking
    return _arm_that_trains(method, ("experts",)).name if method else None


def _arm_that_trains(method: str | None, phases: tuple[Phase, ...]) -> Arm:
    for arm in ARMS:
        if arm.by_train and (arm.method, arm.phases) == (method, phases):
            return arm
    raise InputError(f"no arm trains what {method} selects", key="identify.method")
