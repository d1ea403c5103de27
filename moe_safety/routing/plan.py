"""The plan of `capture`: prompts with their observed answers, grouped by length into forward passes.

Prompts are grouped within the stretch of batches that they stand in, those of several stretches by themselves: what
sums the batches of a stretch reads few parts, however many there are.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.batches.stretches import ROWS, stretches
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
_ITEMS = 256
"""About how many items a plan has."""
_ITEMS_OF_A_STRETCH = 4
"""At least, where there are many stretches."""


def write_plan(plan: Plan, batches: pq.ParquetFile, capture: CaptureConfig, identity: str) -> None:
    """Tokens go through a file, so that memory holds a few bytes of each prompt."""
    with tempfile.TemporaryDirectory() as folder:
        counted = Path(folder) / "counted.arrow"
        section = _sections(batches)
        sizes = _write_counted(counted, batches, capture, section >= 0)
        items = _items(sizes, section[section >= 0], capture.max_tokens_per_forward)
        with pa.memory_map(str(counted)) as source:
            reader = pa.ipc.open_file(source)
            rows = [reader.get_batch(number) for number in range(reader.num_record_batches)]
            plan.write((_item_rows(rows, item) for item in items), PLAN_SCHEMA, identity)


def _items(sizes: np.ndarray, section: np.ndarray, budget: int) -> Iterator[Sequence[np.ndarray]]:
    """Each item's groups of rows; no item has rows of two sections."""
    sections = np.unique(section)
    at_most = max(_ITEMS_OF_A_STRETCH, _ITEMS // max(1, len(sections)))
    for each in sections:
        rows = np.flatnonzero(section == each)
        # Those that stand in several stretches may be as many as some stretches have.
        more = max(1, round(len(rows) / ROWS))
        yield from spread([rows[group] for group in pack(sizes[rows], budget)], at_most * more)


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


def _write_counted(path: Path, batches: pq.ParquetFile, capture: CaptureConfig, first: np.ndarray) -> np.ndarray:
    """Writes each prompt once, however many batches it stands in; returns the rows' lengths."""
    schema = pa.schema([field for field in PLAN_SCHEMA if field.name != "forward"])
    sizes: list[np.ndarray] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for rows in _rows(batches, first):
            counted = [_counted_row(row, capture.tokens) for row in rows]
            writer.write_batch(pa.RecordBatch.from_pylist(counted, schema=schema))
            sizes.append(np.array([len(row["tokens"]) for row in counted], dtype=np.int32))
    return np.concatenate(sizes) if sizes else np.zeros(0, np.int32)


def _rows(batches: pq.ParquetFile, wanted: np.ndarray) -> Iterator[list[dict[str, Any]]]:
    start = 0
    for batch in batches.iter_batches(
        _ROWS_AT_ONCE, columns=["prompt_id", "prompt_tokens", "answer_prefix", "answer_tokens"]
    ):
        here = wanted[start : start + len(batch)]
        start += len(batch)
        if here.any():
            yield batch.filter(pa.array(here)).to_pylist()


def _sections(batches: pq.ParquetFile) -> np.ndarray:
    """Of each prompt's first row its stretch, counted from 1, or 0 where the prompt stands in several; -1 for the other
    rows. Prompts are told apart by hashes, since ids would fill the memory."""
    found, batch_idx = [], []
    for batch in batches.iter_batches(_ROWS_AT_ONCE, columns=["prompt_id", "batch_idx"]):
        hashes = b"".join(hashlib.sha256(one.encode()).digest()[:16] for one in batch["prompt_id"].to_pylist())
        found.append(np.frombuffer(hashes, "V16"))
        batch_idx.append(batch["batch_idx"].to_numpy())
    _, first, prompt = np.unique(np.concatenate(found), return_index=True, return_inverse=True)
    stretch = stretches(np.concatenate(batch_idx))
    elsewhere = np.bincount(prompt, stretch != stretch[first][prompt], len(first)) > 0
    section = np.full(len(stretch), -1)
    section[first] = np.where(elsewhere, 0, 1 + stretch[first])
    return section


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
