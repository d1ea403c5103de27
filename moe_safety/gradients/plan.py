"""The plan of `gradients`: a batch is one work item, its unsafe prompts with the safe answers they shall get."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.errors import InputError
from moe_safety.jobs import Plan
from moe_safety.pipeline import BATCHES

PLAN_SCHEMA = pa.schema(
    [
        ("batch_idx", pa.int32()),
        ("prompt_id", pa.string()),
        ("prompt", pa.list_(pa.int32())),
        ("target", pa.list_(pa.int32())),
    ]
)


def write_plan(plan: Plan, batches: pq.ParquetFile, identity: str) -> None:
    """Batches are read and written one at a time."""
    plan.write(_items(batches), PLAN_SCHEMA, identity)


def _items(batches: pq.ParquetFile) -> Iterator[pa.Table]:
    for batch_idx, rows in groupby(_rows(batches), key=lambda row: row["batch_idx"]):
        unsafe = [_item_row(row) for row in rows if row["label"] == "unsafe"]
        if not unsafe:
            raise InputError(f"batch {batch_idx} has no unsafe row, whose gradient is wanted", file=BATCHES)
        yield pa.Table.from_pylist(unsafe, schema=PLAN_SCHEMA)


def _rows(batches: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    columns = ["batch_idx", "prompt_id", "label", "prompt_tokens", "target_prefix", "target_tokens"]
    for piece in batches.iter_batches(1000, columns=columns):
        yield from piece.to_pylist()


def _item_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "batch_idx": row["batch_idx"],
        "prompt_id": row["prompt_id"],
        "prompt": [*row["prompt_tokens"], *row["target_prefix"]],
        "target": row["target_tokens"],
    }
