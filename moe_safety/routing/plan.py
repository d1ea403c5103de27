"""The plan of `capture`: prompts with their observed answers, grouped by length into forward passes."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.config import CaptureConfig
from moe_safety.jobs import Plan, pack, spread

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


def write_plan(plan: Plan, batches: pq.ParquetFile, capture: CaptureConfig, identity: str) -> None:
    """Tokens go through a file, so that memory holds a few bytes of each prompt."""
    with tempfile.TemporaryDirectory() as folder:
        counted = Path(folder) / "counted.arrow"
        sizes = _write_counted(counted, batches, capture)
        groups = pack(sizes, capture.max_tokens_per_forward)
        with pa.memory_map(str(counted)) as source:
            reader = pa.ipc.open_file(source)
            rows = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            plan.write((_item_rows(rows, item) for item in spread(groups)), PLAN_SCHEMA, identity)


def _item_rows(batches: Sequence[pa.RecordBatch], item: Sequence[np.ndarray]) -> pa.Table:
    # Row by row out of the mapped file: Arrow's own `take` would bring all of it into memory first.
    ends = np.cumsum([len(batch) for batch in batches])
    rows = np.concatenate(item)
    places = np.searchsorted(ends, rows, side="right")
    taken = [
        batches[place].slice(row - ends[place] + len(batches[place]), 1)
        for row, place in zip(rows, places, strict=True)
    ]
    forward = np.repeat(np.arange(len(item), dtype=np.int32), [len(group) for group in item])
    table = pa.Table.from_batches(taken).combine_chunks()
    return table.add_column(0, "forward", pa.array(forward)).cast(PLAN_SCHEMA)


def _write_counted(path: Path, batches: pq.ParquetFile, capture: CaptureConfig) -> np.ndarray:
    """Writes each prompt once, however many batches it stands in; returns the rows' lengths."""
    schema = pa.schema([field for field in PLAN_SCHEMA if field.name != "forward"])
    sizes: list[np.ndarray] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for rows in _unique_rows(batches):
            counted = [_counted_row(row, capture.tokens) for row in rows]
            writer.write_batch(pa.RecordBatch.from_pylist(counted, schema=schema))
            sizes.append(np.array([len(row["tokens"]) for row in counted], dtype=np.int32))
    return np.concatenate(sizes) if sizes else np.zeros(0, np.int32)


def _unique_rows(batches: pq.ParquetFile) -> Iterator[list[dict[str, Any]]]:
    """A prompt's first row; which rows those are is found beforehand from hashes, since ids would fill the memory."""
    first = _first_rows(batches)
    start = 0
    for batch in batches.iter_batches(
        _ROWS_AT_ONCE, columns=["prompt_id", "prompt_tokens", "answer_prefix", "answer_tokens"]
    ):
        here = first[start : start + len(batch)]
        start += len(batch)
        if here.any():
            yield batch.filter(pa.array(here)).to_pylist()


def _first_rows(batches: pq.ParquetFile) -> np.ndarray:
    found = [
        np.frombuffer(b"".join(hashlib.sha256(i.encode()).digest()[:16] for i in batch["prompt_id"].to_pylist()), "V16")
        for batch in batches.iter_batches(_ROWS_AT_ONCE, columns=["prompt_id"])
    ]
    first = np.zeros(sum(map(len, found)), bool)
    first[np.unique(np.concatenate(found), return_index=True)[1]] = True
    return first


def _counted_row(row: dict[str, Any], counted: str) -> dict[str, Any]:
    """What stands between prompt and answer is seen, and counted as neither."""
    prompt, answer = row["prompt_tokens"], row["answer_tokens"]
    before = [*prompt, *row["answer_prefix"]]
    start, end = {
        "response": (len(before), len(before) + len(answer)),
        "prompt": (0, len(prompt)),
        "all": (0, len(before) + len(answer)),
    }[counted]
    return {
        "prompt_id": row["prompt_id"],
        "tokens": [*before, *answer],
        "counted_from": start,
        "counted_to": end,
    }
