"""A sweep in words and figures."""

from __future__ import annotations

from markupsafe import Markup

from moe_safety.evaluate import SHORT
from moe_safety.report.context.sweeps import Swept
from moe_safety.report.figures.parallel import Axis, choice_axis, number_axis, parallel
from moe_safety.report.figures.trade import trade
from moe_safety.tune.outcome import shown

_MEASURES = {
    "selection_score": "selection score",
    "auroc": "AUROC on held-out prompts",
    "stability": "stability between halves (Jaccard)",
    "experts": "experts",
    "safety_score": "safety score",
    "asr": "attack success",
    "over_refusal": "over-refusal",
    "over_refusal_control": "over-refusal in the wrapper",
    "plain_refusal": "plain refusal",
    "benign_loss_increase": "rise of the benign loss",
    "trainable_ratio": "share that trains",
}
_SEARCHES = {"grid": "every combination", "random": "a random search", "optuna": "Optuna's TPE"}


def summary(swept: Swept) -> str:
    """What was tried, how, and what came out."""
    sweep, counts = swept.sweep, [trial.status for trial in swept.trials]
    goals = " and ".join(f"{_called(swept, goal)} ({_better(swept, goal)} is better)" for goal in sweep.goals)
    stopped = f", {counts.count('stopped')} were stopped early by ASHA" if "stopped" in counts else ""
    failed = f", {counts.count('failed')} failed" if "failed" in counts else ""
    told = "".join(f" Of the failures {count} said: {error}." for error, count in swept.failures.items())
    found = ", ".join(f"{_called(swept, goal)} {swept.best.measures[goal]:.3f}" for goal in sweep.goals)
    unread = " Answers that the judge could not read count at their worse end." if sweep.kind == "training" else ""
    return (
        f"A {sweep.kind} sweep by {_SEARCHES[sweep.search]} for {goals}: {len(counts)} trials{stopped}{failed}. "
        f"The best reached {found}.{unread}{told}"
    )


def trials(swept: Swept) -> Markup:
    """Parallel coordinates: what was tried, then the objectives."""
    axes = [*(_tried(swept, key) for key in swept.sweep.space), *(_reached(swept, name) for name in _ends(swept))]
    best = ", ".join(f"{key} {shown(value)}" for key, value in swept.best.settings.items())
    names = ", ".join(axis.name for axis in axes)
    return parallel(axes, f"Parallel coordinates of {len(swept.drawn)} trials over {names}. The best tried {best}.")


def trade_caption(swept: Swept) -> str:
    """The caption of the picture of two measures."""
    x, y = swept.trade
    front = "; filled dots are beaten by no other trial in both" if len(swept.sweep.goals) > 1 else ""
    against = f"{_capital(_called(swept, x))} against {_called(swept, y)}"
    return f"{against}, a dot for each finished trial{front}; the ring is the best."


def trade_off(swept: Swept) -> Markup:
    """The picture of two measures, a dot for each trial."""
    x, y = swept.trade
    shown = [trial for trial in swept.drawn if trial.measures[x] is not None and trial.measures[y] is not None]
    points = {trial.name: (float(trial.measures[x] or 0), float(trial.measures[y] or 0)) for trial in shown}
    first = next(iter(points.values()))
    several = len(swept.sweep.goals) > 1
    best = f"{_called(swept, x)} {first[0]:.3f}, {_called(swept, y)} {first[1]:.3f}"
    label = f"{_capital(_called(swept, x))} against {_called(swept, y)} of {len(points)} trials; the best has {best}."
    front = [trial.on_front and several for trial in shown]
    return trade(points, front, label, x_name=_called(swept, x), y_name=_called(swept, y))


def _tried(swept: Swept, key: str) -> Axis:
    domain, values = swept.sweep.space[key], [trial.settings[key] for trial in swept.drawn]
    name = key.rpartition(".")[2]
    if domain.choice is not None:
        return choice_axis(name, [shown(value) for value in values])
    return number_axis(name, values, log=domain.is_log, whole=domain.is_whole)


def _reached(swept: Swept, name: str) -> Axis:
    return number_axis(name, [trial.measures[name] for trial in swept.drawn])


def _ends(swept: Swept) -> list[str]:
    return list(dict.fromkeys([*swept.trade, *swept.sweep.goals]))


def _called(swept: Swept, name: str) -> str:
    """The words for a measure; without a judge of harm it is known of an answer to an attack only that it is one."""
    return SHORT["answered"] if name == "asr" and not swept.harm_is_judged else _MEASURES[name]


def _better(swept: Swept, goal: str) -> str:
    return "more" if swept.sweep.direction(goal) == "max" else "less"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
