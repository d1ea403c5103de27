"""The few things that all figures are made of."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from markupsafe import Markup


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. Text and values are escaped; `_` in a name stands for `-`, a last one for nothing."""
    given = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(children)
    return Markup("<{}{}>{}</{}>").format(Markup(name), given, inner, Markup(name))


def plot(label: str, height: float, *children: str, **attributes: object) -> Markup:
    """A figure's own SVG; `label` is what is read out in place of it."""
    return tag("svg", *children, role="img", aria_label=label, width="100%", height=f"{height:g}", **attributes)


def titled(words: str) -> Markup:
    """What browsers show over a mark that holds it."""
    return tag("title", words)


def stretched(width: float, height: float, *children: str) -> Markup:
    """An inner drawing in units of its own, as wide and high as the figure."""
    box = f"0 0 {width:g} {height:g}"
    return tag("svg", *children, viewBox=box, preserveAspectRatio="none", width="100%", height="100%")


def percent(share: float) -> str:
    """A share as a percentage, for SVG."""
    return f"{100 * share:.4g}%"


def text(words: object, x: float, y: float, anchor: str, *, dx: float = 0, dy: float = 0, class_: str = "") -> Markup:
    """Words at a share of the plot's width and height, and some pixels beside it."""
    place = {"x": percent(x), "y": percent(y), "dx": f"{dx:g}", "dy": f"{dy:g}"}
    return tag("text", str(words), text_anchor=anchor, class_=class_ or None, **place)


def ticks(low: float, high: float, most: int, *, integer: bool = False) -> list[float]:
    """At most so many round numbers from `low` to `high`."""
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=integer).tick_values(low, high)
    return [float(tick) for tick in found if low - 1e-12 <= tick <= high + 1e-12]


def path(points: Iterable[tuple[float, float]]) -> str:
    """A line through the points; one that is not a number breaks it, and one alone is a dot."""
    drawn, pen = [], "M"
    for x, y in points:
        if np.isfinite(y):
            drawn.append(f"{pen}{x:.5g} {y:.5g}" + ("h0" if pen == "M" else ""))
        pen = "L" if np.isfinite(y) else "M"
    return "".join(drawn)
