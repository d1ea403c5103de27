"""The plan of `capture`: prompts with their observed answers as tokens, grouped by length into forward passes."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.config import CaptureConfig
from moe_safety.jobs import Plan, pack, spread
from moe_safety.models.encode import prompt_and_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
        groups = pack(sizes, capture.max_tokens_per_forward)
        with pa.memory_map(str(encoded)) as source:
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
    """A prompt's first row; which rows those are is found beforehand from hashes, since ids would fill the memory."""
    first = _first_rows(batches)
    start = 0
    for batch in batches.iter_batches(_ROWS_AT_ONCE, columns=["prompt_id", "messages", "answer"]):
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
