"""Parallel coordinates: a line for each trial, across an upright axis for each thing it tried or measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from moe_safety.report.figures.svg import path, percent, plot, stretched, tag, text

HEIGHT = 220
APART = 96
"""Pixels between axes at least; a small screen scrolls."""


@dataclass(frozen=True)
class Axis:
    """A name, every line's value from above to below or NaN, and what stands at which height."""

    name: str
    heights: list[float]
    """0 at the top, 1 at the bottom."""
    labels: list[tuple[float, str]]


def number_axis(name: str, values: Sequence[float | None], *, log: bool = False, whole: bool = False) -> Axis:
    """High values stand above."""
    known = [value for value in values if value is not None]
    scaled = [math.nan if value is None else math.log(value) if log else float(value) for value in values]
    finite = [value for value in scaled if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    spread = high - low
    heights = [1 - (value - low) / spread if spread else 0.5 + 0 * value for value in scaled]
    form = ".0f" if whole else ".3g"
    if len(set(known)) < 2:
        return Axis(name, heights, [(0.5, format(value, form)) for value in known[:1]])
    return Axis(name, heights, [(0.0, format(max(known), form)), (1.0, format(min(known), form))])


def choice_axis(name: str, values: Sequence[str]) -> Axis:
    """Choices in the order in which they are first met."""
    names = list(dict.fromkeys(values))
    places = {each: (number + 0.5) / len(names) for number, each in enumerate(names)}
    return Axis(name, [places[value] for value in values], [(at, each) for each, at in places.items()])


def parallel(axes: Sequence[Axis], label: str, *, marked: int = 0) -> Markup:
    """A line for each value of the axes; the `marked`-th stands out."""
    places = [number / max(1, len(axes) - 1) for number in range(len(axes))]
    lines = [_line(axes, places, row, "line faint") for row in range(len(axes[0].heights)) if row != marked]
    lines.append(_line(axes, places, marked, "line series-0"))
    upright, words = [], []
    for number, (axis, at) in enumerate(zip(axes, places, strict=True)):
        upright.append(tag("line", class_="axis", x1=percent(at), x2=percent(at), y1="0", y2="100%"))
        words.append(text(axis.name, at, 0, "middle", dy=-10 - 14 * (number % 2)))
        # The last axis has its labels on its inner side, so that they end where the figure does.
        last = number == len(axes) - 1
        for height, name in axis.labels:
            words.append(text(name, at, height, "end" if last else "start", dx=-5 if last else 5, dy=4, class_="halo"))
    return plot(label, HEIGHT, *upright, stretched(1, 1, *lines), *words, style=f"min-width:{APART * len(axes)}px")


def _line(axes: Sequence[Axis], places: Sequence[float], row: int, class_: str) -> Markup:
    return tag("path", class_=class_, d=path(zip(places, (axis.heights[row] for axis in axes), strict=True)))
