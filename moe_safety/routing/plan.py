"""The plan of `capture`: prompts with their observed answers as tokens, grouped by length into forward passes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from moe_safety.config import CaptureConfig
from moe_safety.jobs import Plan, pack, spread
from moe_safety.models.encode import prompt_and_answer

PLAN_SCHEMA = pa.schema(
    [
        ("forward", pa.int32()),
        ("prompt_id", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("counted_from", pa.int32()),
        ("counted_to", pa.int32()),
    ]
)
_ROWS_AT_ONCE = 2000


def write_plan(
    plan: Plan,
    batches: pq.ParquetFile,
    tokenizer: PreTrainedTokenizerBase,
    capture: CaptureConfig,
    max_length: int,
    identity: str,
) -> None:
    """Tokens go through a file, so that memory holds a few bytes of each prompt."""
    with tempfile.TemporaryDirectory() as folder:
        encoded = Path(folder) / "encoded.arrow"
        sizes = _encode(encoded, batches, tokenizer, capture, max_length)
        groups = pack(sizes.tolist(), capture.max_tokens_per_forward)
        with pa.memory_map(str(encoded)) as source:
            rows = pa.ipc.open_file(source).read_all()
            plan.write((_item_rows(rows, item) for item in spread(groups)), PLAN_SCHEMA, identity)


def _item_rows(rows: pa.Table, item: list[list[int]]) -> pa.Table:
    forward = np.repeat(np.arange(len(item), dtype=np.int32), [len(group) for group in item])
    taken = rows.take(pa.array(np.concatenate(item)))
    return taken.add_column(0, "forward", pa.array(forward)).cast(PLAN_SCHEMA)


def _encode(
    path: Path,
    batches: pq.ParquetFile,
    tokenizer: PreTrainedTokenizerBase,
    capture: CaptureConfig,
    max_length: int,
) -> np.ndarray:
    """Writes each prompt once, however many batches it stands in; returns the rows' lengths."""
    schema = pa.schema([field for field in PLAN_SCHEMA if field.name != "forward"])
    sizes: list[np.ndarray] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for rows in _unique_rows(batches):
            encoded = [_encode_row(tokenizer, row, capture.tokens, max_length) for row in rows]
            writer.write_batch(pa.RecordBatch.from_pylist(encoded, schema=schema))
            sizes.append(np.array([len(row["tokens"]) for row in encoded], dtype=np.int32))
    return np.concatenate(sizes) if sizes else np.zeros(0, np.int32)


def _unique_rows(batches: pq.ParquetFile) -> Iterator[list[dict[str, Any]]]:
    seen: set[str] = set()
    for batch in batches.iter_batches(_ROWS_AT_ONCE, columns=["prompt_id", "messages", "answer"]):
        rows = {row["prompt_id"]: row for row in batch.to_pylist() if row["prompt_id"] not in seen}
        seen |= rows.keys()
        if rows:
            yield list(rows.values())


def _encode_row(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], counted: str, max_length: int
) -> dict[str, Any]:
    prompt, answer = prompt_and_answer(tokenizer, row["messages"], row["answer"], max_length)
    start, end = {
        "response": (len(prompt), len(prompt) + len(answer)),
        "prompt": (0, len(prompt)),
        "all": (0, len(prompt) + len(answer)),
    }[counted]
    return {
        "prompt_id": row["prompt_id"],
        "tokens": prompt + answer,
        "counted_from": start,
        "counted_to": end,
    }
