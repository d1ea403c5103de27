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


def _top(values: Iterable[float]) -> float:
    found = np.array(list(values), dtype=float)
    return round_up(float(found[np.isfinite(found)].max(initial=0)))
