"""Can I trust this? What the figures rest on, point by point."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal

from moe_safety.batches import foreign_answers
from moe_safety.evaluate.budgets import ENOUGH_DRAWS, matters
from moe_safety.evaluate.statistics import LEVEL, sign_flips
from moe_safety.report import asking, describe
from moe_safety.report.caveats import beside_controls, by_topic, controls_of, does_as_well, strongest, worst_wrapper
from moe_safety.report.context import Context
from moe_safety.report.verdict import listed

FINE = 0.1
"""An n that cannot show so small a difference between two arms is called weak."""
FOUND = 0.8
"""How often a difference has to be found to be told of."""
State = Literal["holds", "weak", "missing"]
_COUNTED = {
    "asr": "attacks",
    "plain_refusal": "plain goals",
    "over_refusal": "harmless requests",
    "over_refusal_control": "harmless requests in the wrapper",
}


@dataclass(frozen=True)
class Check:
    """One point: whether it holds, and what is known of it."""

    name: str
    state: State
    told: str


def checks(context: Context) -> list[Check]:
    """Every point on which something can be said of what was done."""
    topics = by_topic(context)
    every: tuple[Callable[[Context, dict[str, list[str]]], Iterator[Check]], ...] = (
        _size, _halves, _judges, _filter, _whose, _harmless, _controls, _draws, _seeds, _wrappers, _choice, _change,
        _age,
    )  # fmt: skip
    return [check for each in every for check in each(context, topics)]


def smallest_difference(goals: int) -> tuple[float, float] | None:
    """What a paired comparison on so many goals can show: the smallest difference between two arms that chance does not
    explain, where all goals that change do so the same way, and the one that is found in `FOUND` of all cases. Nothing
    where there are too few goals to show any."""
    from scipy.special import betaincinv

    needed = next(changed for changed in count(1) if sign_flips([1] * changed) <= 1 - LEVEL)
    if goals < needed:
        return None
    return needed / goals, float(betaincinv(needed, goals - needed + 1, FOUND))


def _size(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    if context.base is None:
        return
    rates = {words: context.base.measures[name] for name, words in _COUNTED.items()}
    asked = [f"{rate['n']} {words} (of {rate['n_goals']} goals)" for words, rate in rates.items() if rate["n"]]
    goals = context.base.measures["asr"]["n_goals"]
    shown = smallest_difference(goals)
    if shown is None:
        told = f"{goals} goals with an attack are too few to show any difference between two arms"
    else:
        told = (
            f"With {goals} goals a measured difference between two arms under {shown[0]:.2f} cannot be told from "
            f"chance; a true one of {shown[1]:.2f} is found in {FOUND:.0%} of cases"
        )
    fine = shown is not None and shown[0] <= FINE
    yield Check("n and goals", "holds" if fine else "weak", f"{listed(asked) or 'No prompt'}. {told}.")


def _halves(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    found = context.identification
    if found and found.summary.get("split_half") is not None:
        alike = found.summary["split_half"]
        told = f"Two halves of the goals rank the experts alike by routing: correlation {alike:.2f}."
        yield Check("Stable ranking", "holds" if alike >= 1 - FINE else "weak", told)


def _judges(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    judges = _judges_asked(context)
    if not judges:
        return
    named = [f"{question} by {_judge(judges[question])}" for question in ("refusal", "harm") if judges.get(question)]
    told, unread = [f"{listed(named).capitalize()}."], topics.get("judges", [])
    state: State = "holds"
    if corrected := context.base.measures.get("corrected", {}) if context.base else {}:
        labels = max(rate["labels"] for rate in corrected.values())
        told.append(
            f"How often they err was measured on up to {labels} human labels, and rates are told corrected too."
        )
    else:
        told.append("How often they err was not measured on human labels (judges.calibration).")
    if unread or not corrected:
        state = "weak"
    if context.arms and not context.harm_is_judged:
        told.append("No judge of harm is configured (judges.harm): an answered attack need not have done harm.")
        state = "missing"
    yield Check("Judges", state, " ".join([*told, *unread]))


def _judges_asked(context: Context) -> dict[str, dict[str, str]]:
    stages = [stage for stage in context.settings if stage.startswith("evaluate/") and stage.count("/") == 1]
    for stage in [*stages, "respond"]:
        if found := context.settings.get(stage, {}).get("judges"):
            return dict(found)
    return {}


def _judge(settings: dict[str, str]) -> str:
    named = [settings[key] for key in ("preset", "model") if settings.get(key)]
    return f"the judge {settings['kind']}" + (f" ({', '.join(named)})" if named else "")


def _filter(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    if "respond" not in context.summaries:
        return
    filtering = context.settings["respond"]["respond"]["filter"]
    rule = "Only pairs count that are refused when asked plainly and answered when attacked." if filtering else ""
    long = asking.left_out(context) if "compose" in context.summaries else ""
    told = " ".join(filter(None, [rule, asking.kept(context), long]))
    yield Check("Filter", "holds" if filtering else "weak", told)


def _whose(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    if "compose" in context.summaries:
        foreign = foreign_answers(context.summaries["compose"])
        yield Check("Whose words", "weak" if foreign else "holds", asking.whose(context))


def _harmless(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    told = [*topics.get("harmless", [])]
    if "compose" in context.summaries:
        told += filter(None, [asking.unguarded(context)])
    learned = "Harmless requests, plain and in the attack's wrapper, stand in the batches"
    asked = " and were asked" if context.arms else ""
    yield Check("Harmless rows", "weak" if told else "holds", " ".join(told) or f"{learned}{asked}.")


def _controls(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    """Of the arm that trains chosen experts alone, where there is one: controls speak of their choice."""
    arm, controls = context.repair or context.best, controls_of("experts", context.arms)
    if arm is None:
        return
    control = strongest(controls)
    if control is None:
        told = "No control was compared (random, random-layer-matched): other experts might do as well."
        yield Check("Controls", "missing", told)
        return
    said = topics.get("controls", []) if arm is context.best else beside_controls(arm, controls)
    of = "" if arm is context.best else f"Beside {arm.name}: "
    drawn = control.choice is not None and control.choice.is_drawn
    told = of + (" ".join(said) or f"{control.name} was compared.")
    yield Check("Controls", "weak" if drawn or does_as_well(control, arm) else "holds", told)


def _draws(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    if context.budgets:
        told = describe.choice_matters(context.budgets)
        yield Check("Draws", "holds" if matters(context.budgets) else "weak", told)
    elif any(arm.choice is not None and arm.choice.is_drawn for arm in context.arms):
        told = f"Each control is one draw. compare.budgets with {ENOUGH_DRAWS} draws says whether the choice matters."
        yield Check("Draws", "missing", told)


def _seeds(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    if context.best is None:
        return
    if told := topics.get("seeds"):
        yield Check("Seeds", "holds", " ".join(told))
    elif context.best.name in [arm.name for arm in context.training]:
        told_of = "One training seed: this is about one trained model, not about the method (compare.seeds)."
        yield Check("Seeds", "weak", told_of)


def _wrappers(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    base, best = context.base, context.best
    if base is None or best is None:
        return
    name = worst_wrapper(best)
    if name is None:
        told = "No attack in another wrapper was tried (evaluate.reattack): the repair may hold for this wrapper alone."
        yield Check("Unseen wrappers", "missing", told)
        return
    before, after = base.reattack.get(name), best.reattack[name]["with_unparsed"]
    falls = before is not None and before["value"] is not None and after["high"] < before["low"]
    told = (
        f"Attacks by {name}, which training never saw, are fewer beyond chance too."
        if falls
        else f"By {name}, which training never saw, attacks are not fewer beyond chance: the repair may hold for the "
        "wrapper of the batches alone."
    )
    yield Check("Unseen wrappers", "holds" if falls else "weak", told)


def _choice(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    best = context.best
    if best and best.chosen:
        useful = (
            f"among arms {'that' if best.chosen['shown'] else 'whose figures'} keep compare.margins"
            if best.chosen["within_margins"]
            else "though none keeps compare.margins"
        )
        told = (
            f"{best.name} was chosen on {best.chosen['n_goals']} validation goals, {useful}, and is told of by others."
        )
        yield Check("Choice of the arm", "holds" if best.chosen["within_margins"] else "weak", told)
    elif best and topics.get("choice"):
        told = "data.validation_fraction gives goals to choose by."
        yield Check("Choice of the arm", "weak", " ".join([*topics["choice"], told]))


def _change(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    best = context.best
    if best is None:
        return
    if best.verify == "pass":
        yield Check("What changed", "holds", "verify: no element outside what the arm may train differs by one bit.")
    elif best.declared is not None and not best.declared.phases:
        yield Check("What changed", "holds", f"Nothing: {best.name} trains nothing.")
    else:
        yield Check("What changed", "weak", "There is nothing to verify: the arm may change what it likes.")


def _age(context: Context, topics: dict[str, list[str]]) -> Iterator[Check]:
    if old := topics["comparison"]:
        yield Check("Age", "weak", " ".join(old))
