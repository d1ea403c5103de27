"""The budget curve: what repairing more experts brings, by the run's own choice and by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from moe_safety.arms import ARMS, CHOICE, BudgetArm
from moe_safety.evaluate.measures import VERDICTS, measures, measures_of
from moe_safety.evaluate.statistics import LEVEL
from moe_safety.evaluate.suites import is_own

CURVE = "budget_curve.json"
ENOUGH_DRAWS = 19
"""So many matched draws, all of them worse, are what chance brings in one case of twenty."""
_RESAMPLINGS = 2000
_RATES = ("asr", "over_refusal", "over_refusal_control")
TOLD = (*_RATES, "benign_loss")
"""What is told at each budget."""


def budget_curve(
    arms: Sequence[BudgetArm], answers: Mapping[str, pa.Table], losses: Mapping[str, Any]
) -> dict[str, Any]:
    """The curve of each kind of arm, the area under its `asr` over the binary logarithm of the budget, and how the
    choice's area lies below that of the draws. `answers` and `losses` are by the arms' names.

    An answer that nobody could read counts as a success. Points and areas weigh answers alike, as every `asr` does. An
    area is a mean over budgets, so it lies between 0 and 1; its interval is of resampled goals, the same for all kinds,
    and resampled draws.
    """
    budgets = sorted({arm.budget for arm in arms})
    sizes, areas = _areas(arms, budgets, answers)
    goals, chance = len(sizes), np.random.default_rng(0)
    picked = chance.integers(0, goals, (_RESAMPLINGS, goals))
    resampled = {kind: _resampled(chance, each, sizes, picked) for kind, each in areas.items()}
    found: dict[str, Any] = {"budgets": budgets, "goals": goals, "kinds": {}}
    whole = {kind: each.sum(axis=1) / sizes.sum() for kind, each in areas.items()}
    for kind, each in whole.items():
        points = [_point(arms, kind, budget, answers, losses) for budget in budgets]
        told = {"points": points, "draws": len(each), "area": _span(float(each.mean()), resampled[kind])}
        if kind != CHOICE:
            apart = float(each.mean() - whole[CHOICE].mean())
            told["above_choice"] = _span(apart, resampled[kind] - resampled[CHOICE])
            told["p"] = (1 + int((each <= whole[CHOICE].mean() + 1e-12).sum())) / (1 + len(each))
        found["kinds"][kind] = told
    return found


def matters(curve: Mapping[str, Any]) -> bool | None:
    """Whether the choice of experts matters, by draws that settle it; unknown where there are too few. Nothing is shown
    by a curve of which an arm changed what it may not."""
    drawn = settling(curve)
    if drawn is None or drawn["draws"] < ENOUGH_DRAWS:
        return None
    return not curve.get("failed") and bool(drawn["p"] <= 1 - LEVEL + 1e-9)


def settling(curve: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The curve of the arm whose draws say whether the choice of experts matters: same layers, same load."""
    known = ((ARMS.get(kind).choice, told) for kind, told in curve["kinds"].items() if kind in ARMS)
    return next((told for choice, told in known if getattr(choice, "settles", False)), None)


def _areas(
    arms: Sequence[BudgetArm], budgets: Sequence[int], answers: Mapping[str, pa.Table]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """How many attacks each goal has, and for each kind of arm how many of them succeed on the mean over budgets, by
    draw and goal: areas are linear in what answers do."""
    found = {arm.name: _by_goal(answers[arm.name]) for arm in arms}
    goals = sorted(set.intersection(*(set(each) for each in found.values())))
    sizes = np.array([len(found[arms[0].name][goal]) for goal in goals])
    weights = _weights(budgets)
    areas: dict[str, np.ndarray] = {}
    for kind in dict.fromkeys(arm.kind for arm in arms):
        draws = sorted({arm.draw for arm in arms if arm.kind == kind})
        each = np.zeros((len(draws), len(goals)))
        for arm in arms:
            if arm.kind == kind:
                successes = np.array([sum(found[arm.name][goal]) for goal in goals])
                each[draws.index(arm.draw)] += weights[budgets.index(arm.budget)] * successes
        areas[kind] = each
    return sizes, areas


def _by_goal(table: pa.Table) -> dict[str, list[bool]]:
    """Of each attack on each goal, whether it may have succeeded."""
    own = table.filter(is_own(table))
    measure = measures_of(own)["asr"]
    column, found = VERDICTS[measure.question], dict[str, list[bool]]()
    for row in measure.counted(own.to_pylist()):
        found.setdefault(row["goal_id"], []).append(row[column] in (measure.verdict, "unparsed"))
    return found


def _weights(budgets: Sequence[int]) -> np.ndarray:
    """Of each budget in the mean over the binary logarithm of the budget, by trapezoids."""
    places = np.array([math.log2(budget) for budget in budgets])
    steps = np.diff(places)
    weights = np.zeros(len(places))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return np.asarray(weights / weights.sum())


def _resampled(chance: np.random.Generator, each: np.ndarray, sizes: np.ndarray, picked: np.ndarray) -> np.ndarray:
    draws = chance.integers(0, len(each), (len(picked), len(each)))
    means = [each[draw].mean(axis=0)[goals].sum() for draw, goals in zip(draws, picked, strict=True)]
    return np.array(means) / sizes[picked].sum(axis=1)


def _span(value: float, resampled: np.ndarray) -> dict[str, float]:
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": value, "low": float(low), "high": float(high)}


def _point(
    arms: Sequence[BudgetArm], kind: str, budget: int, answers: Mapping[str, pa.Table], losses: Mapping[str, Any]
) -> dict[str, Any]:
    """The means over draws at one budget, unparsed answers at their worse end."""
    here = [arm for arm in arms if (arm.kind, arm.budget) == (kind, budget)]
    tables = [answers[arm.name].filter(is_own(answers[arm.name])) for arm in here]
    rates = [measures(table)["overall"] for table in tables]
    found = {name: _mean([rate[name]["with_unparsed"]["value"] for rate in rates]) for name in _RATES}
    return {"budget": budget, **found, "benign_loss": _mean([losses[arm.name] for arm in here])}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def curve_page(curve: Mapping[str, Any], success: str) -> str:
    """The section of comparison.md."""
    budgets, kinds = curve["budgets"], curve["kinds"]
    head = ["experts", "draws", *(f"{budget}" for budget in budgets), "area", "above the choice", "p"]
    rows = [head]
    for kind, told in kinds.items():
        shares = ["" if point["asr"] is None else f"{point['asr']:.3f}" for point in told["points"]]
        more = [_told(told["above_choice"]), f"{told['p']:.3f}"] if "above_choice" in told else ["", ""]
        rows.append([kind, str(told["draws"]), *shares, _told(told["area"]), *more])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + "---|" * len(head))
    words = {True: "The choice of experts matters", False: "Nothing shows that the choice of experts matters"}
    sure = matters(curve)
    end = f"{ENOUGH_DRAWS} load-matched draws are needed to say whether the choice of experts matters"
    told = (
        f"The {success} with so many experts repaired, a mean over draws, unparsed answers counted; its area over the "
        f"binary logarithm of the budget, with an interval over {curve['goals']} goals and draws; p is the share of "
        "draws, with the choice among them, that do as well as the choice."
    )
    table = "\n".join(lines)
    if failed := curve.get("failed"):
        end = words[False] = f"The curve proves nothing: {', '.join(failed)} changed what may not change (`verify`)"
    enough = f"{told_budget(curve, success)} " if "chosen" in curve else ""
    return f"\n## By budget\n\n{told}\n\n{table}\n\n{enough}{end if sure is None else words[sure]}.\n"


def told_budget(curve: Mapping[str, Any], success: str) -> str:
    """How many experts are enough by validation goals, in a sentence."""
    chosen = curve["chosen"]
    keep = "of budgets that keep compare.margins there" if chosen["within_margins"] else "though none keeps the margins"
    if chosen["within_margins"] and not chosen["shown"]:
        keep = "of budgets whose figures keep compare.margins there, though so few goals do not show it"
    ties = "the smallest that ties with the lowest" if chosen["tied"] else "that of the lowest"
    counts = f"{chosen['n']} answers to validation attacks about {chosen['n_goals']} goals"
    return f"A budget of {chosen['budget']} was chosen on {counts}: {keep}, {ties} {success}."


def _told(span: Mapping[str, float]) -> str:
    return f"{span['value']:.3f} [{span['low']:.3f}, {span['high']:.3f}]"
