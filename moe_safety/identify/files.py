"""What `identify` leaves in the run directory: tables, masks and the selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.identify.experts import Experts
from moe_safety.identify.overlap import overlap_table, serving_table
from moe_safety.identify.places import Places
from moe_safety.identify.risk import RISK_COLUMNS
from moe_safety.identify.selection import SELECTION, Selection
from moe_safety.rundir import RunDir

if TYPE_CHECKING:
    from moe_safety.identify.analysis import Analysis, Groups, Risk

RISK = "risk_diff.parquet"
BATCH_RISK = "batch_risk_diff.parquet"
CATEGORY_RISK = "category_risk_diff.parquet"
OVERLAP = "overlap.parquet"
SERVING = "expert_overlap.parquet"
MASK = "expert_mask.npy"
BATCH_MASKS = "batch_expert_masks.npy"

_ROWS_AT_ONCE = 1 << 18


def write_results(run: RunDir, analysis: Analysis, selection: Selection) -> list[str]:
    """Writes everything but the pictures, and returns the names. Without routing there are no risk tables."""
    experts = analysis.experts
    tables = _write_risk(run, experts, analysis.places, analysis.risk) if analysis.risk else []
    of = (experts, selection.per_batch, analysis.per_category)
    run.write_table(OVERLAP, overlap_table(*of))
    run.write_table(SERVING, serving_table(experts, selection.experts, selection.per_batch, analysis.per_category))
    run.write_json(SELECTION, selection.to_json())
    write_mask(run, MASK, experts.matrix(experts.members([selection.experts])[0], False))
    write_mask(run, BATCH_MASKS, experts.matrix(experts.members(list(selection.per_batch.values())), False))
    return [*tables, OVERLAP, SERVING, SELECTION, MASK, BATCH_MASKS]


def _write_risk(run: RunDir, experts: Experts, places: Places, risk: Risk) -> list[str]:
    """An undefined rate or difference is null."""
    run.write_table(RISK, pa.Table.from_pandas(risk.table, preserve_index=False).replace_schema_metadata(None))
    _write_groups(run, BATCH_RISK, experts, "batch_idx", pa.array(places.batch_ids, pa.int32()), risk.batches)
    categories = pa.array(places.categories, pa.string())
    _write_groups(run, CATEGORY_RISK, experts, "category", categories, risk.categories)
    return [RISK, BATCH_RISK, CATEGORY_RISK]


def _write_groups(run: RunDir, name: str, experts: Experts, key: str, keys: pa.Array, groups: Groups) -> None:
    """A row for each group and expert, a few groups at a time: tens of millions of rows are nothing unusual."""
    at_once = max(1, _ROWS_AT_ONCE // len(experts))
    with run.writing(name) as path:
        writer = None
        for start in range(0, max(1, len(groups)), at_once):
            some = slice(start, start + at_once)
            table = _group_table(experts, key, keys[some], groups[some])
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
        if writer:
            writer.close()


def _group_table(experts: Experts, key: str, keys: pa.Array, groups: Groups) -> pa.Table:
    n, width = len(keys), len(experts)
    named = {
        "layer": pa.array(np.tile(experts.layer, n)),
        "expert": pa.array(np.tile(experts.expert, n)),
        "Layer_Expert": pa.array(experts.names).take(pa.array(np.tile(np.arange(width), n))),
    }
    values = groups.columns()
    columns = named | {name: pa.array(value.reshape(-1), from_pandas=True) for name, value in values.items()}
    order: Sequence[str] = [*RISK_COLUMNS, *(name for name in values if name not in RISK_COLUMNS)]
    repeated = keys.take(pa.array(np.repeat(np.arange(n), width)))
    return pa.table({key: repeated} | {name: columns[name] for name in order})


def write_mask(run: RunDir, name: str, mask: np.ndarray) -> None:
    """A mask as a NumPy file."""
    with run.writing(name) as path, open(path, "wb") as file:
        np.save(file, mask, allow_pickle=False)
