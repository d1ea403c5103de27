"""`effects/*.parquet`, one row per prompt, and `expert_effects.parquet`, one row per expert."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from moe_safety.intervals import interval
from moe_safety.models import MoELayout


def effects_schema(layout: MoELayout) -> pa.Schema:
    """Effects are [MoE layers x experts of the largest], flattened; NaN where not measured."""
    width = layout.n_moe_layers * layout.max_experts
    return pa.schema(
        [
            ("prompt_id", pa.string()),
            ("label", pa.string()),
            ("margin", pa.float32()),
            ("effects", pa.list_(pa.float32(), width)),
        ],
        metadata={"layout": json.dumps(layout.to_dict())},
    )


def effects_table(
    layout: MoELayout, prompt_ids: list[str], labels: list[str], margins: list[float], effects: np.ndarray
) -> pa.Table:
    """Effects are [prompts, MoE layers, experts]."""
    flat = pa.FixedSizeListArray.from_arrays(
        pa.array(effects.reshape(-1), pa.float32()), layout.n_moe_layers * layout.max_experts
    )
    columns = [pa.array(prompt_ids), pa.array(labels), pa.array(margins, pa.float32()), flat]
    return pa.Table.from_arrays(columns, schema=effects_schema(layout))


def by_prompt(table: pa.Table) -> np.ndarray:
    """[prompts, MoE layers x experts], float64."""
    values = table["effects"].combine_chunks()
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(table), values.type.list_size).astype(np.float64)


def merge(pieces: pa.Table, layout: MoELayout) -> pa.Table:
    """One row per prompt from pieces that each measured some experts; pieces of a prompt stand together."""
    ids, labels = pieces["prompt_id"].to_pylist(), pieces["label"].to_pylist()
    starts = [row for row in range(len(ids)) if row == 0 or ids[row] != ids[row - 1]]
    values = by_prompt(pieces)
    # Where several are not NaN they would be the same measurement; `fmax` takes the one that is there.
    merged = np.stack([np.fmax.reduce(part) for part in np.split(values, starts[1:])])
    margins = pieces["margin"].to_pylist()
    return effects_table(
        layout, [ids[row] for row in starts], [labels[row] for row in starts], [margins[row] for row in starts], merged
    )


def per_expert(effects: pa.Table, first_order: pa.Table, layout: MoELayout) -> pa.Table:
    """The mean effect on unsafe prompts, less that on control prompts where there are any; `against` says which."""
    controlled = "control" in effects["label"].to_pylist()
    effect = against_control(effects)
    low, high = _interval(effects, effect)
    places = [layout.position(layer) * layout.max_experts + expert for layer, expert in layout.experts()]
    columns = {"effect": effect, "first_order": against_control(first_order), "low": low, "high": high}
    return pa.table(
        {
            "layer": pa.array([layer for layer, _ in layout.experts()], pa.int32()),
            "expert": pa.array([expert for _, expert in layout.experts()], pa.int32()),
            **{name: pa.array(values[places], pa.float64(), from_pandas=True) for name, values in columns.items()},
            "against": pa.array(["control" if controlled else "none"] * len(places)),
        }
    )


def against_control(table: pa.Table) -> np.ndarray:
    """Mean over unsafe rows minus mean over control rows, as far as there are any, for every place."""
    return sum((sign * rows.mean(axis=0) for sign, rows in _sides(table)), np.zeros(by_prompt(table).shape[1]))


def _interval(table: pa.Table, effect: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prompts are of different goals, so each counts as one."""
    sides = [rows for _, rows in _sides(table)]
    fewest = min(len(rows) for rows in sides)
    if fewest < 2:
        return interval(effect, np.full_like(effect, np.nan), fewest)
    return interval(effect, np.sqrt(sum(rows.var(axis=0, ddof=1) / len(rows) for rows in sides)), fewest)


def _sides(table: pa.Table) -> list[tuple[int, np.ndarray]]:
    """The rows that count for an effect, and those that count against it."""
    labels, values = np.array(table["label"].to_pylist()), by_prompt(table)
    sides = [(sign, values[labels == label]) for label, sign in (("unsafe", 1), ("control", -1))]
    return [(sign, rows) for sign, rows in sides if len(rows)]
