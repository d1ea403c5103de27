"""A rate and its interval, drawn on a line from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from moe_safety.report.figures.svg import percent, plot, tag, titled

_MIDDLE = "50%"


def interval(rate: Mapping[str, Any], label: str) -> Markup:
    """A point for the rate, a bar for its interval, and a ring where it would be if every unparsed answer counted."""
    marks = [tag("line", class_="track", x1="0", x2="100%", y1=_MIDDLE, y2=_MIDDLE)]
    marks += [
        tag("line", class_="track", x1=percent(place), x2=percent(place), y1="25%", y2="75%") for place in (0, 0.5, 1)
    ]
    if rate["value"] is not None:
        low, high, value = (percent(rate[key]) for key in ("low", "high", "value"))
        marks.append(tag("line", class_="range", x1=low, x2=high, y1=_MIDDLE, y2=_MIDDLE))
        if rate.get("unparsed"):
            worst = percent(rate["with_unparsed"]["value"])
            marks.append(tag("circle", class_="worst", cx=worst, cy=_MIDDLE, r="4"))
        marks.append(tag("circle", class_="value", cx=value, cy=_MIDDLE, r="4"))
    return plot(label, 16, titled(label), *marks, class_="interval")


def against_margin(difference: Mapping[str, Any], reach: float, label: str) -> Markup:
    """A difference from -reach to reach: a point, a bar for its interval, and the margin as an upright line."""

    def at(value: float) -> str:
        return percent((value + reach) / (2 * reach))

    marks = [tag("line", class_="track", x1="0", x2="100%", y1=_MIDDLE, y2=_MIDDLE)]
    marks.append(tag("line", class_="track", x1=at(0), x2=at(0), y1="25%", y2="75%"))
    limit = at(difference["margin"])
    marks.append(tag("line", class_="limit", x1=limit, x2=limit, y1="0", y2="100%"))
    if difference["high"] is not None:
        low, high = at(difference["low"]), at(difference["high"])
        marks.append(tag("line", class_="range", x1=low, x2=high, y1=_MIDDLE, y2=_MIDDLE))
    marks.append(tag("circle", class_="value", cx=at(difference["value"]), cy=_MIDDLE, r="4"))
    return plot(label, 16, titled(label), *marks, class_="interval")


def before_and_after(before: Mapping[str, Any], after: Mapping[str, Any], label: str) -> Markup:
    """Two such rates on one line, unparsed answers of the later one at its worse end."""
    marks = [tag("line", class_="track", x1="0", x2="100%", y1=_MIDDLE, y2=_MIDDLE)]
    for rate, when in ((before, "before"), (after, "after")):
        low, high, value = (percent(rate[key]) for key in ("low", "high", "value"))
        marks.append(tag("line", class_=f"range {when}", x1=low, x2=high, y1=_MIDDLE, y2=_MIDDLE))
        marks.append(tag("circle", class_=f"value {when}", cx=value, cy=_MIDDLE, r="5"))
    return plot(label, 18, titled(label), *marks, class_="interval")
