"""`gradients/*.parquet`, one row per batch, and `expert_gradients.parquet`, one row per expert."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from moe_safety.models import MoELayout


def gradients_schema(layout: MoELayout) -> pa.Schema:
    """Scores are [MoE layers x experts of the largest], flattened."""
    width = layout.n_moe_layers * layout.max_experts
    return pa.schema(
        [
            ("batch_idx", pa.int32()),
            ("tokens", pa.int64()),
            ("scores", pa.list_(pa.float64(), width)),
            ("scores_l2", pa.list_(pa.float64(), width)),
            ("expert_tokens", pa.list_(pa.int64(), width)),
        ],
        metadata={"layout": json.dumps(layout.to_dict())},
    )


def fold(parts: Iterable[pa.Table], layout: MoELayout) -> pa.Table:
    """The mean over batches, added up in their order, so that it is the same for any number of actors."""
    total = {name: np.zeros(layout.shape) for name in ("scores", "scores_l2", "expert_tokens")}
    batches = 0
    for part in parts:
        for row in part.to_pylist():
            for name, values in total.items():
                values += np.array(row[name], dtype=np.float64).reshape(layout.shape)
            batches += 1
    tokens = total["expert_tokens"]
    # An expert without tokens has no gradient either, so its rate is zero, not undefined.
    per_token = total["scores"] / np.maximum(tokens, 1)
    places = [(layout.position(layer), expert) for layer, expert in layout.experts()]
    rows, experts = (np.array(axis) for axis in zip(*places, strict=True))
    return pa.table(
        {
            "layer": pa.array([layer for layer, _ in layout.experts()], pa.int32()),
            "expert": pa.array(experts, pa.int32()),
            "gradient": total["scores"][rows, experts] / batches,
            "gradient_l2": total["scores_l2"][rows, experts] / batches,
            "gradient_per_token": per_token[rows, experts],
        }
    )
