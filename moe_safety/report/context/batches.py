"""Each batch's own selection: batches by experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_safety.identify import Pair, Selection, read_selection
from moe_safety.identify.analysis import BATCH_RISK
from moe_safety.report.figures.heatmap import Grid
from moe_safety.rundir import RunDir

SHOWN_BATCHES, SHOWN_EXPERTS = 64, 48
"""Of more, as many are drawn: the first batches, and the experts that most batches select."""


@dataclass(frozen=True)
class BatchView:
    """What the attack reaches in each batch, and what is selected for it."""

    grid: Grid
    """Risk differences, with a row for each batch and a column for each expert that any batch selects."""
    marked: list[tuple[int, int]]
    """The cells that are selected."""
    batches: int
    experts: int
    """How many there are; the map shows some."""


def read_batch_view(run: RunDir) -> BatchView | None:
    """Nothing where there are no risk differences, or no expert was selected."""
    selection = read_selection(run)
    every = _by_popularity(selection)
    if not every or not run.exists(BATCH_RISK):
        return None
    batches, experts = sorted(selection.per_batch)[:SHOWN_BATCHES], every[:SHOWN_EXPERTS]
    rows, columns = ({one: place for place, one in enumerate(shown)} for shown in (batches, experts))
    values = np.full((len(batches), len(experts)), np.nan)
    table: list[dict[str, Any]] = run.read_table(BATCH_RISK, ["batch_idx", "layer", "expert", "risk_diff"]).to_pylist()
    for row in table:
        place, pair = rows.get(row["batch_idx"]), (row["layer"], row["expert"])
        if place is not None and pair in columns and row["risk_diff"] is not None:
            values[place, columns[pair]] = row["risk_diff"]
    marked = [
        (rows[batch], columns[pair]) for batch in batches for pair in selection.per_batch[batch] if pair in columns
    ]
    names = [f"L{layer:02d}_E{expert:02d}" for layer, expert in experts]
    grid = Grid(values, batches, names, np.ones(values.shape, dtype=bool), above=True)
    return BatchView(grid, marked, len(selection.per_batch), len(every))


def _by_popularity(selection: Selection) -> list[Pair]:
    """The experts that any batch selects, those first that most of them do."""
    times: dict[Pair, int] = {}
    for pairs in selection.per_batch.values():
        for pair in pairs:
            times[pair] = times.get(pair, 0) + 1
    return sorted(times, key=lambda pair: (-times[pair], pair))
