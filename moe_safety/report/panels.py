"""Figures with a panel for each arm, all on one scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from moe_safety.report import describe
from moe_safety.report.context.arms import ComparedArm
from moe_safety.report.context.training import Curve, Trained
from moe_safety.report.figures.curves import curves, powers_around, round_up
from moe_safety.report.figures.intervals import against_margin

MANY_TIMES = 30


def loss(arm: Trained, curve: Curve, everyone: Iterable[Trained]) -> Markup:
    """The losses of the two phases are of different kinds, so each has a scale of its own."""
    same = [value for each in everyone for other in each.curves if other.phase == curve.phase for value in other.loss]
    steps, label = list(range(1, len(curve.loss) + 1)), describe.loss(arm, curve)
    low, high = min(same), max(same)
    # A loss that falls through several powers of ten would lie on the floor of a plain scale.
    bottom, top = powers_around(low, high) if 0 < MANY_TIMES * low < high else (0.0, _top(same))
    options: dict[str, Any] = {"x_name": "step", "breaks": curve.rounds, "smooth": True}
    return curves(steps, {"loss": curve.loss}, label, top=top, bottom=bottom, **options)


def shift(arm: ComparedArm, measure: str, kinds: Iterable[str], everyone: Iterable[ComparedArm]) -> Markup:
    """A line for each kind of prompt."""
    lines = arm.shift_of(measure)
    shown = {kind: lines[kind] for kind in kinds if kind in lines}
    every = [value for each in everyone for line in each.shift_of(measure).values() for value in line]
    return curves(arm.shift["layers"], shown, describe.shift(arm, measure, shown), top=_top(every), x_name="layer")


def budgets(curve: Mapping[str, Any], measure: str, title: str) -> Markup:
    """A line for the choice and for each kind of draw, over the binary logarithm of the budget."""
    lines = {kind: [point[measure] for point in told["points"]] for kind, told in curve["kinds"].items()}
    named = {math.log2(budget): str(budget) for budget in curve["budgets"]}
    top = _top([value for line in lines.values() for value in line]) if measure == "benign_loss" else 1.0
    label = describe.budget_curve(curve, measure, title)
    return curves(list(named), lines, label, top=top, x_name="experts repaired", named=named, height=190)


def margin(arm: ComparedArm, name: str, title: str, everyone: Iterable[ComparedArm]) -> Markup:
    """One difference from the base beside its margin, on the scale of all arms."""
    known = [each.margins[name] for each in everyone if name in each.margins]
    ends = [abs(one[end]) for one in known for end in ("value", "low", "high", "margin") if one[end] is not None]
    one = arm.margins[name]
    label = f"{arm.name}, {title}: {one['value']:+.3f} {describe.bounds(one)}, margin {one['margin']:g}: "
    return against_margin(one, _top(ends), label + describe.held(one))


def firmness(arm: ComparedArm, weakened: str, everyone: Iterable[ComparedArm]) -> Markup:
    """A line for plain goals and one for attacks, over how far the model was weakened."""
    every = [point["value"] for each in everyone for line in each.robustness[weakened].values() for point in line]
    reach = _top([abs(value) for value in every])
    curve = arm.robustness[weakened]
    lines = {
        words: [point["value"] for point in curve[label]] for label, words in describe.ASKED.items() if label in curve
    }
    at = [point["at"] for point in next(iter(curve.values()))]
    name, label = ("experts held back", "steps")[weakened != "held_back"], describe.firmness(arm, weakened)
    return curves(at, lines, label, top=reach, bottom=-reach if min(every) < 0 else 0, x_name=name)


def _top(values: Iterable[float]) -> float:
    found = np.array(list(values), dtype=float)
    return round_up(float(found[np.isfinite(found)].max(initial=0)))
