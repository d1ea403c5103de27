"""Lines over steps or layers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from moe_safety.report.figures.svg import path, percent, plot, stretched, tag, text, ticks

POINTS = 240
"""Longer lines are thinned: a point of the drawing is the mean of its neighbours."""
_SMOOTHED_OVER = 0.1
"""Of the line, for its running mean."""


def curves(
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    label: str,
    *,
    top: float,
    bottom: float = 0,
    x_name: str,
    breaks: Mapping[str, float] | None = None,
    smooth: bool = False,
    named: Mapping[float, str] | None = None,
    height: int = 150,
) -> Markup:
    """Each of `lines` over `x`, from `bottom` to `top`, by powers of ten where `bottom` lies above 0. `breaks` are
    named upright lines. With `smooth` each line is drawn pale under its running mean. `named` are the places to name
    below, where these are no round numbers."""
    low, high = float(min(x)), float(max(x))

    def across(place: float) -> float:
        return (place - low) / (high - low) if high > low else 0.5

    places = np.array([across(each) for each in x])
    drawn = []
    for number, line in enumerate(lines.values()):
        heights = _heights(np.asarray(line, dtype=float), bottom, top)
        if smooth:
            drawn.append(_line(places, heights, f"line pale series-{number}"))
            heights = _running_mean(heights)
        drawn.append(_line(places, heights, f"line series-{number}"))
    upright = [
        tag("line", class_="break", x1=percent(across(at)), x2=percent(across(at)), y1="0", y2="100%")
        for at in (breaks or {}).values()
    ]
    names = [text(name, across(at), 0, "start", dx=4, dy=10) for name, at in (breaks or {}).items()]
    places_named = named or {tick: f"{tick:g}" for tick in ticks(low, high, 6, integer=True)}
    across_ticks = [text(name, across(tick), 1, "middle", dy=15) for tick, name in places_named.items()]
    frame = [*_levels(bottom, top), *across_ticks, text(x_name, 1, 1, "end", dy=30)]
    told = _told(places, [(named or {}).get(each, f"{each:g}") for each in x], lines, x_name)
    return plot(label, height, *frame, *upright, stretched(1, 1, *drawn), *names, data_curves=told)


def _told(places: np.ndarray, names: Sequence[str], lines: Mapping[str, Sequence[float]], x_name: str) -> str:
    """What the page's script tells of the place under the pointer: the lines' own numbers, of a long line every so
    many."""
    some = slice(None, None, -(-len(places) // POINTS))
    values = {name: [_short(value) for value in list(line)[some]] for name, line in lines.items()}
    known = {"across": x_name, "names": list(names)[some], "places": [_short(at) for at in places[some]]}
    return json.dumps(known | {"lines": values}, separators=(",", ":"))


def _short(value: float) -> float | None:
    return float(f"{value:.3g}") if math.isfinite(value) else None


def swatch(number: int) -> Markup:
    """A piece of a line, for a key."""
    line = tag("line", class_=f"line series-{number}", x1="0", x2="28", y1="5", y2="5")
    return tag("svg", line, width="28", height="10", aria_hidden="true")


def round_up(value: float) -> float:
    """The end of a scale from 0 that holds `value`."""
    step = ticks(0, value or 1.0, 4)[1]
    return step * math.ceil((value or 1.0) / step)


def _line(places: np.ndarray, heights: np.ndarray, class_: str) -> Markup:
    size = -(-len(places) // POINTS)
    if size > 1:
        cuts = np.arange(0, len(places), size)
        count = np.diff([*cuts, len(places)])
        places, heights = (np.add.reduceat(each, cuts) / count for each in (places, heights))
    return tag("path", class_=class_, d=path(zip(places.tolist(), heights.tolist(), strict=True)))


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Over as many neighbours on either side as there are."""
    half = max(1, round(_SMOOTHED_OVER * len(values) / 2))
    sums = np.concatenate([[0], np.cumsum(values)])
    first, last = (np.clip(np.arange(len(values)) + by, 0, len(values)) for by in (-half, half + 1))
    return (sums[last] - sums[first]) / (last - first)


def powers_around(low: float, high: float) -> tuple[float, float]:
    """The powers of ten that hold both numbers between them."""
    first = math.floor(math.log10(low))
    return 10.0**first, 10.0 ** max(first + 1, math.ceil(math.log10(high)))


def _heights(values: np.ndarray, bottom: float, top: float) -> np.ndarray:
    """Shares of the plot, counted from above."""
    if bottom <= 0:
        return 1 - (values - bottom) / (top - bottom)
    return 1 - np.log(np.maximum(values, bottom) / bottom) / math.log(top / bottom)


def _levels(bottom: float, top: float) -> list[Markup]:
    """Faint lines at round heights, and their numbers."""
    found = []
    powers = range(round(math.log10(bottom)), round(math.log10(top)) + 1) if bottom > 0 else ()
    for tick in [10.0**power for power in powers] or ticks(bottom, top, 4):
        (at,) = _heights(np.array([tick]), bottom, top).tolist()
        found += [
            tag("line", class_="level", x1="0", x2="100%", y1=percent(at), y2=percent(at)),
            text(f"{tick:g}" if tick >= 0.001 or tick <= 0 else f"{tick:.0e}", 0, at, "end", dx=-6, dy=4),
        ]
    return found
