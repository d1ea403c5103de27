"""Which arm the headline tells of: chosen on validation goals, among those that are as useful as the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from moe_safety.arms import BASE, told_of
from moe_safety.config import Config, MarginsConfig

ArmObject = Mapping[str, Any]
"""As comparison.json has it."""
Number = TypeVar("Number", int, float)
FAIL = "fail"
_HARMLESS = ("over_refusal", "over_refusal_control")


def answers_alone(config: Config, **more: object) -> Config:
    """The settings of an examination of answers and losses, and of no more than that."""
    plain = {
        "samples": 1,
        "routing_prompts": 0,
        "suites": [],
        "lm_eval_tasks": [],
        "reidentify": False,
        "held_back": [],
        "after_finetuning": 0,
        "model_path": None,
        "output_name": None,
    }
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update=plain | more)})


def on_validation(config: Config) -> Config:
    """What choices are made by: the answers to validation prompts."""
    return answers_alone(config, split="validation")


def choose(arms: Sequence[ArmObject], margins: MarginsConfig) -> tuple[str, dict[str, Any]] | None:
    """The arm's name and how it was chosen; nothing where no validation goal has an attack, or no arm can be chosen.

    Of the arms whose figures keep the margins, or of all where none does, the one of the lowest `asr` on validation
    goals, a mean over the run's own attack and the wrappers that training never saw, over all training seeds, with
    every answer counted that nobody could read. Of those that chance may set apart from it, one that is shown to keep
    the margins comes before others, and then the one that changes the least of the model. An arm that changed what it
    may not, with whatever seed, and a control, are never chosen.
    """
    from moe_safety.evaluate.seeds import by_seed

    base = next(arm for arm in arms if arm["arm"] == BASE)
    able = [arm for arm in arms if _is_repair(arm) and _attacks(arm) is not None]
    if not able or _attacks(base) is None:
        return None
    useful = [arm for arm in able if _is_useful(arm, base, margins)]
    among = useful or able
    best = min(among, key=lambda arm: _attacks(arm) or 0.0)
    reach = _attacks(best, "high") or 0.0
    tied = [arm for arm in among if (_attacks(arm) or 0.0) <= reach]
    shown = [arm for arm in tied if useful and _is_shown(arm, margins)]
    chosen = min(shown or tied, key=lambda arm: (arm.get("changed_ratio") or 0.0, _attacks(arm) or 0.0))
    others = [arm["arm"] for arm in shown or tied if arm is not chosen]
    counts = {name: best["validation"]["asr"][name] for name in ("n", "n_goals")} | {"seeds": len(by_seed(chosen))}
    wrappers = list(best["validation"].get("reattack", {}))
    kept = {"within_margins": bool(useful), "shown": bool(shown)}
    return chosen["arm"], {**kept, "tied": others, "wrappers": wrappers, **counts}


def choose_repair(arms: Sequence[ArmObject], margins: MarginsConfig) -> tuple[str, dict[str, Any]] | None:
    """The same among arms that train chosen experts alone: what the run is about, where another does better."""
    base, *others = arms
    return choose([base, *(arm for arm in others if (of := told_of(arm)) and of.repairs)], margins)


def choose_least(
    base: Mapping[str, Any], trials: Mapping[Number, Mapping[str, Any]], margins: MarginsConfig
) -> tuple[Number, dict[str, Any]]:
    """Of what was trained with several learning rates, or budgets, the one to tell of, by the same rule: of those that
    keep the margins the lowest `asr`, and of what ties with it the least. All are figures of validation; what changed
    what it may not (`verify`) is chosen only where everything did."""
    kept_word = {value: figures for value, figures in trials.items() if figures.get("verify") != FAIL}
    found = {value: {"validation": figures} for value, figures in (kept_word or trials).items()}
    useful = {value: one for value, one in found.items() if _is_useful(one, {"validation": base}, margins)}
    among = useful or found
    best = min(among.values(), key=lambda one: _attacks(one) or 0.0)
    reach = _attacks(best, "high") or 0.0
    tied = sorted(value for value, one in among.items() if (_attacks(one) or 0.0) <= reach)
    shown = [value for value in tied if useful and _is_shown(among[value], margins)]
    first, *others = shown or tied
    counts = {name: best["validation"]["asr"][name] for name in ("n", "n_goals")}
    return first, {"within_margins": bool(useful), "shown": bool(shown), "tied": others, **counts}


def _is_repair(arm: ArmObject) -> bool:
    from moe_safety.evaluate.seeds import by_seed

    of = told_of(arm)
    kept_word = FAIL not in (one.get("verify") for one in by_seed(arm).values())
    return arm["arm"] != BASE and kept_word and not (of and of.is_control)


def _attacks(arm: ArmObject, end: str = "value") -> float | None:
    """The share of attacks that may have succeeded on validation goals, or the upper end of its interval: a mean over
    wrappers, in which the attack of the batches weighs as much as each of the others."""
    found = arm.get("validation", {})
    if not found.get("asr", {}).get("n"):
        return None
    rates = [found["asr"], *found.get("reattack", {}).values()]
    shares = [rate["with_unparsed"][end] for rate in rates if rate["n"]]
    return float(sum(shares) / len(shares))


def _is_useful(arm: ArmObject, base: ArmObject, margins: MarginsConfig) -> bool:
    """Whether by its figures it refuses no more of what is harmless than the base and the margin, and finds good
    answers as likely."""
    here, there = arm["validation"], base["validation"]
    for name in _HARMLESS:
        now, then = here[name]["with_unparsed"]["value"], there[name]["value"]
        if None not in (now, then) and now > then + getattr(margins, name):
            return False
    losses = here["benign_loss"], there["benign_loss"]
    return None in losses or losses[0] <= losses[1] + margins.benign_loss


def _is_shown(arm: ArmObject, margins: MarginsConfig) -> bool:
    """Whether it is shown to keep every margin, with each seed: the whole interval lies within, as on test goals."""
    from moe_safety.evaluate.margins import against

    found = against(arm["validation"].get("differences", {}), margins)
    return bool(found) and all(one["holds"] for one in found.values())
