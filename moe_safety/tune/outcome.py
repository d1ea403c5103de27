"""What a sweep found: a table with a row per trial, the best of them, and the trades worth choosing between."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from moe_safety.config import MEASURES, Sweep
from moe_safety.tune.records import Record

RESULTS, BEST = "results.parquet", "best.yaml"
"""In a sweep's folder."""


def results_table(sweep: Sweep, records: Sequence[Record]) -> pa.Table:
    """A row per trial, in the order of their names: what it tried, by key, and what it measured last."""
    measures = MEASURES[sweep.kind]
    columns: dict[str, pa.Array] = {
        "trial": pa.array([record.id for record in records], pa.string()),
        "status": pa.array([record.status for record in records], pa.string()),
    }
    for key, domain in sweep.space.items():
        kind = pa.string() if domain.choice is not None else pa.int64() if domain.is_whole else pa.float64()
        columns[key] = pa.array([record.point[key] for record in records], kind)
    for name in measures:
        columns[name] = pa.array([record.measured(name) for record in records], pa.float64())
    columns["rounds"] = pa.array([len(record.results) for record in records], pa.int32())
    columns["seconds"] = pa.array([record.seconds for record in records], pa.float64())
    columns["error"] = pa.array([record.error for record in records], pa.string())
    columns["on_front"] = pa.array(on_front(sweep, records))
    return pa.table(columns)


def ranked(sweep: Sweep, records: Sequence[Record]) -> list[Record]:
    """The finished trials, best first, by the objective; between several objectives by the measure that sums them up.
    Ties go to the other measures, then to the name."""
    ended = [record for record in records if record.status == "finished" and _measured(record, sweep.goals)]
    first = sweep.goals if len(sweep.goals) == 1 else [sweep.summary]
    order = [*first, *(name for name in MEASURES[sweep.kind] if name not in first)]
    return sorted(ended, key=lambda record: ([_cost(sweep, record, name) for name in order], record.id))


def best_of(sweep: Sweep, records: Sequence[Record]) -> Record | None:
    """None where no trial came to its end."""
    return next(iter(ranked(sweep, records)), None)


def on_front(sweep: Sweep, records: Sequence[Record]) -> list[bool]:
    """Which finished trials no other beats in one objective without losing in another."""
    ended = [record.status == "finished" and _measured(record, sweep.goals) for record in records]
    costs = np.array([[_cost(sweep, record, name) for name in sweep.goals] for record in records])
    known = costs[np.array(ended, dtype=bool)]
    beaten = [bool(((known <= mine).all(axis=1) & (known < mine).any(axis=1)).any()) for mine in costs]
    return [done and not worse for done, worse in zip(ended, beaten, strict=True)]


def described(sweep: Sweep, record: Record) -> str:
    """A trial's settings in a line."""
    return ", ".join(f"{key} {shown(sweep.space[key].plain(value))}" for key, value in record.point.items())


def shown(value: Any) -> str:
    """A setting, as short as it can be told."""
    if isinstance(value, dict):
        return "/".join(str(one) for one in value.values() if one is not None)
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _measured(record: Record, names: Sequence[str]) -> bool:
    return all(record.measured(name) is not None for name in names)


def _cost(sweep: Sweep, record: Record, name: str) -> float:
    """The lower the better; what was not measured is worst."""
    value = record.measured(name)
    return np.inf if value is None else -value if sweep.direction(name) == "max" else value
