"""How far the selections of batches, and of categories, are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_safety.identify import OVERLAP
from moe_safety.report.figures.heatmap import Grid
from moe_safety.rundir import RunDir

NAME_LENGTH = 15
SHOWN = 64
"""The first so many are drawn, each against each."""


@dataclass(frozen=True)
class Overlap:
    """Jaccard of each pair of selections of one kind."""

    kind: str
    """`batch` or `category`."""
    grid: Grid
    groups: int
    """How many there are; the map shows the first."""
    lowest: float
    median: float
    highest: float
    """Over all pairs."""


def read_overlaps(run: RunDir) -> list[Overlap]:
    """The overlaps of batches' selections, and of categories' where there are several."""
    if not run.exists(OVERLAP):
        return []
    rows = run.read_table(OVERLAP, ["kind", "a", "b", "jaccard"]).to_pylist()
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in ("batch", "category")}
    return [_overlap(kind, pairs) for kind, pairs in by_kind.items() if pairs]


def _overlap(kind: str, pairs: list[dict[str, Any]]) -> Overlap:
    names = list(dict.fromkeys(pair[side] for side in ("a", "b") for pair in pairs))
    place = {name: number for number, name in enumerate(names)}
    values = np.eye(len(names))
    for pair in pairs:
        a, b = place[pair["a"]], place[pair["b"]]
        values[a, b] = values[b, a] = np.nan if pair["jaccard"] is None else pair["jaccard"]
    shown = values[:SHOWN, :SHOWN]
    every = values[np.triu_indices(len(names), k=1)]
    lowest, median, highest = np.nanquantile(every, [0, 0.5, 1]) if np.isfinite(every).any() else [np.nan] * 3
    rows, columns = _labels(kind, names[:SHOWN])
    grid = Grid(shown, rows, columns, np.ones(shown.shape, dtype=bool))
    return Overlap(kind, grid, len(names), float(lowest), float(median), float(highest))


def _labels(kind: str, names: list[str]) -> tuple[list[str], list[str]]:
    """Batches have numbers; a category's name stands before its row, and its number under its column."""
    if kind == "batch":
        return names, names
    numbers = [str(number) for number in range(1, len(names) + 1)]
    return [
        f"{name if len(name) <= NAME_LENGTH else name[: NAME_LENGTH - 1] + '…'} {n}"
        for name, n in zip(names, numbers, strict=True)
    ], numbers
