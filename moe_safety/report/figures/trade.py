"""Two measures against each other, and the front that no trial beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from moe_safety.report.figures.svg import percent, plot, tag, text, ticks, titled

HEIGHT = 240


def trade(
    points: Mapping[str, tuple[float, float]],
    front: Sequence[bool],
    label: str,
    *,
    x_name: str,
    y_name: str,
) -> Markup:
    """A dot for each named pair, filled where it stands on the front, with a ring around the first, which is the
    best."""
    pairs = list(points.values())
    spans = [_span([point[side] for point in pairs]) for side in (0, 1)]

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = ((value - low) / (high - low) for value, (low, high) in zip(point, spans, strict=True))
        return x, 1 - y

    marks = [_dot(*place(pairs[0]), "ring", 8)]
    marks += [
        _dot(*place(point), "trial front" if on else "trial", words=f"{name}: {point[0]:.3g}, {point[1]:.3g}")
        for (name, point), on in zip(points.items(), front, strict=True)
    ]
    return plot(label, HEIGHT, *_frame(spans, x_name, y_name), *marks)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """With some air, so that no dot stands on the edge."""
    low, high = min(values), max(values)
    air = 0.06 * (high - low) or 0.05
    return low - air, high + air


def _dot(x: float, y: float, class_: str, radius: float = 4, words: str = "") -> Markup:
    told = [titled(words)] if words else []
    return tag("circle", *told, class_=class_, cx=percent(x), cy=percent(y), r=f"{radius:g}")


def _frame(spans: Sequence[tuple[float, float]], x_name: str, y_name: str) -> list[Markup]:
    (left, right), (low, high) = spans
    found = []
    for tick in ticks(low, high, 5):
        at = 1 - (tick - low) / (high - low)
        found += [
            tag("line", class_="level", x1="0", x2="100%", y1=percent(at), y2=percent(at)),
            text(f"{tick:g}", 0, at, "end", dx=-6, dy=4),
        ]
    for tick in ticks(left, right, 6):
        found.append(text(f"{tick:g}", (tick - left) / (right - left), 1, "middle", dy=15))
    return [*found, text(x_name, 1, 1, "end", dy=30), text(y_name, 0, 0, "start", dx=4, dy=-6)]
