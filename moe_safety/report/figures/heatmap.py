"""Maps of numbers in rows and columns, as experts by layer or batches by batch."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from moe_safety.report.figures.svg import plot, stretched, tag, text

MANY_COLUMNS, MANY_MARKS = 100, 100
_NOT_ABOVE = "0 or less"
SHADES = 12
"""Steps of the scale on one side of 0; within a step a cell's colour is the same."""


@dataclass(frozen=True)
class Grid:
    """Numbers in rows and columns, with names for both."""

    values: np.ndarray
    """[rows, columns]; what is not a number has no colour."""
    rows: Sequence[object]
    columns: Sequence[object]
    exists: np.ndarray
    """Which cells there are: layers may hold different numbers of experts."""
    above: bool = False
    """Whether the numbers above 0 alone are told of: the others are drawn alike, and their value is not given."""

    @property
    def unknown(self) -> bool:
        """Whether a cell that is there has no number."""
        return bool((self.exists & ~np.isfinite(self.values)).any())

    @property
    def diverging(self) -> bool:
        """Whether numbers below 0 are told of."""
        return not self.above and bool((self.values < 0).any())

    @property
    def clipped(self) -> bool:
        """Whether there are numbers below 0 that are not told of."""
        return self.above and bool((self.values < 0).any())

    @property
    def reach(self) -> float:
        """The largest distance from 0 that is told of."""
        known = self.values[np.isfinite(self.values)]
        return float((known if self.above else np.abs(known)).max(initial=0)) or 1.0


def heatmap(
    grid: Grid,
    label: str,
    *,
    marked: Iterable[tuple[int, int]] = (),
    reach: float | None = None,
    square: bool = False,
    upright: bool = False,
    down: str = "",
    across: str = "",
) -> Markup:
    """Colours run from 0 to `reach`, on both sides where there are negative numbers; `marked` cells get a frame.
    `down` and `across` say what rows and columns are. `upright` writes the name of every column below it, downwards."""
    reach, places = reach or grid.reach, sorted(marked)
    rows, columns = grid.values.shape
    rising = not grid.diverging
    body = [
        tag("path", class_="cell-unknown", d=_cells(grid.exists & ~np.isfinite(grid.values))),
        tag("path", class_="cell-zero", d=_cells(np.isfinite(grid.values))),
        *_shaded(
            (grid.values.clip(0) if grid.above else grid.values) / reach, "cell-rising" if rising else "cell-above"
        ),
        tag(
            "path",
            class_="mark thin" if columns > 64 or len(places) > MANY_MARKS else "mark",
            d="".join(f"M{c + 0.04} {r + 0.04}h.92v.92h-.92z" for r, c in places),
        ),
    ]
    height = rows * max(4, min(24, 420 / rows))
    below = _names_downwards(grid.columns) if upright else _column_names(grid.columns)
    names = [*_row_names(grid.rows, 280 if square else height), *below]
    names += (
        [text(down, 0, 0, "end", dx=-6, dy=-6), text(across, 1, 1, "end", dy=62 if upright else 30)] if down else []
    )
    narrowest = f"min-width: {(14 if upright else 2) * columns}px"
    shape = f"height: auto; aspect-ratio: {columns} / {rows}; max-width: 28rem" if square else narrowest
    return plot(label, height, stretched(columns, rows, *body), *names, style=shape, data_map=_told(grid, down, across))


def _told(grid: Grid, down: str, across: str) -> str:
    """What the page's script tells of the cell under the pointer."""
    lowest = 0 if grid.clipped else -math.inf
    values = [[_value(value, lowest) for value in row] for row in grid.values.tolist()]
    known = {"down": down, "across": across, "rows": list(grid.rows), "columns": list(grid.columns), "values": values}
    return json.dumps(known, separators=(",", ":"))


def _value(value: float, lowest: float) -> float | str | None:
    if not math.isfinite(value):
        return None
    return float(f"{value:.3g}") if value > lowest else _NOT_ABOVE


def scale(grid: Grid, reach: float | None = None) -> Markup:
    """The key to a map's colours; it has two sides where the map has negative numbers."""
    reach = reach or grid.reach
    shown = (
        [f"-{reach:.3g}", "0", f"+{reach:.3g}"]
        if grid.diverging
        else [_NOT_ABOVE if grid.clipped else "0", f"{reach:.3g}"]
    )
    names, kind = [tag("span", name) for name in shown], "diverging" if grid.diverging else "rising"
    return tag("div", tag("i"), *names, class_=f"scale {kind}", aria_hidden="true")


def wide(grid: Grid) -> Markup:
    """For the frame of a map: one that a small screen has to scroll can be reached by the keyboard."""
    return Markup(' tabindex="0"') if len(grid.columns) > MANY_COLUMNS else Markup("")


def _shaded(shares: np.ndarray, above: str) -> list[Markup]:
    """A path for each colour: few elements, however many experts."""
    step = np.rint(np.clip(np.nan_to_num(shares), -1, 1) * SHADES).astype(int)
    return [
        tag(
            "path",
            class_=above if at > 0 else "cell-below",
            fill_opacity=f"{abs(at) / SHADES:.3g}",
            d=_cells(step == at),
        )
        for at in np.unique(step[step != 0]).tolist()
    ]


def _cells(which: np.ndarray) -> str:
    """The cells as one path; neighbours in a row are drawn together."""
    runs: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, column in np.argwhere(which).tolist():
        here = runs[row]
        if here and sum(here[-1]) == column:
            here[-1] = here[-1][0], here[-1][1] + 1
        else:
            here.append((column, 1))
    return "".join(f"M{start} {row}h{long}v1h-{long}z" for row, found in runs.items() for start, long in found)


def _row_names(names: Sequence[object], height: float) -> list[Markup]:
    every = max(1, math.ceil(12 * len(names) / height))
    return [
        text(name, 0, (place + 0.5) / len(names), "end", dx=-6, dy=4)
        for place, name in enumerate(names)
        if place % every == 0
    ]


def _names_downwards(names: Sequence[object]) -> list[Markup]:
    return [
        text(name, (place + 0.5) / len(names), 1, "start", dy=6, class_="upright") for place, name in enumerate(names)
    ]


def _column_names(names: Sequence[object]) -> list[Markup]:
    every = 2 ** max(0, math.ceil(math.log2(len(names) / 10)))
    return [
        text(name, (place + 0.5) / len(names), 1, "middle", dy=15)
        for place, name in enumerate(names)
        if place % every == 0
    ]
