"""The arms of a comparison: each a configuration of `train`, or none, and the selection that it stands on."""

from __future__ import annotations

from dataclasses import dataclass

from moe_safety.config import Config
from moe_safety.evaluate.subjects import BASE, Subject, arm_subject
from moe_safety.identify.selection import SELECTION, read_selection
from moe_safety.identify.stage import draw_control, select_by
from moe_safety.rundir import RunDir
from moe_safety.train.arms import repairs_by

STEERING = "steering"
BASELINE = "baseline"
ROUTER = "+router"


@dataclass(frozen=True)
class Arm:
    """One way of hardening, with one seed."""

    kind: str
    """Its name in the configuration."""
    name: str
    """What its folders are called: the kind, and the seed where it is a repeat."""
    config: Config
    """What it trains with."""
    place: str | None
    """Where in `selections/` its selection is; the run's own `selection.json` without one."""
    control_of: str | None = None
    """The arm that this one, drawn by chance, is as large as."""

    @property
    def trains(self) -> bool:
        return self.kind != STEERING

    @property
    def selection(self) -> str:
        return f"selections/{self.place}/{SELECTION}" if self.place else SELECTION

    def select(self, *, force: bool = False) -> None:
        """Makes its selection; `identify` made that of the run's own method, which controls are matched to."""
        if self.place:
            make = draw_control if self.config.identify.by_chance else select_by
            make(self.config, self.place, force=force)

    def subject(self, run: RunDir) -> Subject:
        """What is evaluated of it."""
        if self.trains:
            return arm_subject(self.config, run, self.name)
        return Subject(self.name, self.config.model, tuple(read_selection(run, self.selection).experts))


def arms_of(config: Config) -> list[Arm]:
    """The arms that the configuration names, but for the base; behind them their repeats with further seeds. Steering
    has no repeats, since nothing of it hangs on a seed."""
    kinds = [kind for kind in config.compare.arms if kind != BASE]
    repeats = [(kind, seed) for seed in config.compare.seeds if seed != config.seed for kind in kinds]
    first = [_arm(config, kind, None) for kind in kinds]
    return first + [_arm(config, kind, seed) for kind, seed in repeats if kind != STEERING]


def _arm(config: Config, kind: str, seed: int | None) -> Arm:
    name = kind if seed is None else f"{kind}.seed-{seed}"
    trained = config.train.model_copy(update=_training(config, kind))
    seeded = config.model_copy(update={"train": trained} | ({} if seed is None else {"seed": seed}))
    if kind == BASELINE:
        return Arm(kind, name, seeded, None)
    method = _method(kind)
    own = method == config.identify.method
    # Another method ranks by its own first choice of scores, which have units of their own.
    others = {"method": method, "score": None, "min_score": None}
    ranked = config.identify if own else config.identify.model_copy(update=others | _matched(config, method))
    drawn_again = seed is not None and ranked.by_chance
    place = f"{method}.seed-{seed}" if drawn_again else None if own else method
    control_of = _control_of(config, method) if ranked.by_chance else None
    return Arm(kind, name, seeded.model_copy(update={"identify": ranked}), place, control_of)


def _matched(config: Config, method: str) -> dict[str, object]:
    return {"matches": config.identify.method} if method == "random_layer_matched" else {}


def _control_of(config: Config, method: str) -> str | None:
    """The run's own arm; where that is the control itself, the arm of the method that it is matched to, if any."""
    own = config.identify
    if method != own.method:
        return repairs_by(own.method)
    return repairs_by(own.ranking) if own.ranking else None


def _method(kind: str) -> str:
    if kind == STEERING:
        return "routing"
    return kind.removesuffix(ROUTER).removeprefix("selective-").replace("-", "_")


def _training(config: Config, kind: str) -> dict[str, object]:
    """What the arm changes of `train`."""
    router = config.train.router.model_copy(update={"enabled": kind.endswith(ROUTER)})
    if kind == BASELINE:
        return {"mode": "baseline", "router": router, "masking": "gradient", "routing": "frozen"}
    return {"mode": "selective", "router": router}
