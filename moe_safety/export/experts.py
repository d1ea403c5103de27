"""Risk tables, selections and masks as the earlier scripts kept them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from moe_safety.identify import Selection
from moe_safety.identify.analysis import BATCH_RISK
from moe_safety.pipeline import BATCH_MASKS, MASK, RISK
from moe_safety.rundir import RunDir


def risk_tables(run: RunDir, selection: Selection) -> dict[str, Any]:
    """One table for each batch, and the aggregated one, best first."""
    batches = run.read_table(BATCH_RISK)
    per_batch = [batches.filter(pc.equal(batches["batch_idx"], batch)).to_pandas() for batch in selection.per_batch]
    aggregated = run.read_table(RISK).to_pandas()
    return {
        "batch_risk_diffs": [_plain(table) for table in per_batch],
        "aggregated_risk_diff": _plain(aggregated.sort_values("risk_diff", ascending=False, ignore_index=True)),
    }


def batch_selections(run: RunDir, selection: Selection) -> dict[str, Any]:
    """Experts and masks of each batch. The rows of a mask are the MoE layers in order, not layer numbers."""
    masks = _mask(run, BATCH_MASKS)
    return {
        "batch_unsafe_experts": [list(experts) for experts in selection.per_batch.values()],
        "batch_expert_masks": list(masks),
    }


def global_selection(run: RunDir, selection: Selection) -> dict[str, Any]:
    """The experts selected over all batches together, under both names that were in use."""
    return {
        "unsafe_experts": list(selection.experts),
        "global_unsafe_experts": list(selection.experts),
        "expert_mask": _mask(run, MASK),
    }


def _mask(run: RunDir, name: str) -> np.ndarray:
    return np.load(io.BytesIO(run.read_bytes(name)), allow_pickle=False).astype(np.float32)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """With the columns that the earlier tables had, and with text in the form that older versions of pandas read."""
    table = table.assign(
        d_safe=table["n_safe"] - table["a_safe"],
        d_unsafe=table["n_unsafe"] - table["a_unsafe"],
        risk_diff_abs=table["risk_diff"].abs(),
        Layer_Expert=table["Layer_Expert"].astype(object),
    )
    return table.set_axis(table.columns.astype(object), axis=1)
