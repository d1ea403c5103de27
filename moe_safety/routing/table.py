"""`routing/*.parquet`: integer counts per prompt and expert, with the model's layout in the schema."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from moe_safety.models import MoELayout


def routing_schema(layout: MoELayout) -> pa.Schema:
    """One row per prompt; `counts` and `weights` are [MoE layers x experts of the largest], flattened."""
    width = layout.n_moe_layers * layout.max_experts
    return pa.schema(
        [
            ("prompt_id", pa.string()),
            ("tokens", pa.int32()),
            ("counts", pa.list_(pa.int32(), width)),
            ("weights", pa.list_(pa.float32(), width)),
        ],
        metadata={"layout": json.dumps(layout.to_dict())},
    )


def layout_of(schema: pa.Schema) -> MoELayout:
    """The layout that a routing table was made with."""
    return MoELayout.from_dict(json.loads(schema.metadata[b"layout"]))


def routing_table(
    layout: MoELayout, prompt_ids: list[str], tokens: np.ndarray, counts: np.ndarray, weights: np.ndarray
) -> pa.Table:
    """Counts and weights are [prompts, MoE layers, experts]."""
    width = layout.n_moe_layers * layout.max_experts
    columns = [
        pa.array(prompt_ids, pa.string()),
        pa.array(tokens, pa.int32()),
        pa.FixedSizeListArray.from_arrays(pa.array(counts.reshape(-1), pa.int32()), width),
        pa.FixedSizeListArray.from_arrays(pa.array(weights.reshape(-1), pa.float32()), width),
    ]
    return pa.Table.from_arrays(columns, schema=routing_schema(layout))


def matrix(table: pa.Table, column: str) -> np.ndarray:
    """`counts` or `weights` as [prompts, MoE layers x experts]."""
    values = table[column].combine_chunks()
    return values.flatten().to_numpy().reshape(len(table), values.type.list_size)
