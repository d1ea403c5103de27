"""What the stages of this room leave for later ones, and what decides whether counts still belong to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.batches.encoded import Encoder, tokenizer_digest
from moe_safety.batches.targets import REFUSALS
from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.models.io import load_chat
from moe_safety.pipeline import BATCHES
from moe_safety.rundir import RunDir

_COUNTED = ("prompt_tokens", "answer_prefix", "answer_tokens")
"""What a model sees of a row while it is counted."""


def prompts_digest(run: RunDir) -> str:
    """A hash of the prompts in the batches and of what the model said to them, however they are put together: batches
    can be formed anew of the same prompts without running the model again."""
    if not run.exists(BATCHES):
        raise InputError("is not there; run `compose` before", file=run.path(BATCHES))
    found: list[np.ndarray] = []
    with run.open_parquet(BATCHES) as batches:
        for piece in batches.iter_batches(2000, columns=["prompt_id", *_COUNTED]):
            digests = b"".join(hashlib.sha256(row).digest() for row in _rows(piece))
            found.append(np.frombuffer(digests, "V32"))
    # Sorted and each once: the order of batches, and prompts that stand in several, make no difference.
    return hashlib.sha256(np.unique(np.concatenate(found)).tobytes() if found else b"").hexdigest()


def _rows(piece: pa.RecordBatch) -> Iterator[bytes]:
    """What identifies each row: its prompt's id and the tokens, with their numbers."""
    ids = piece["prompt_id"].to_pylist()
    columns = [(column.offsets.to_numpy(), column.values.to_numpy()) for column in map(piece.column, _COUNTED)]
    for row, prompt_id in enumerate(ids):
        parts = [values[offsets[row] : offsets[row + 1]].tobytes() for offsets, values in columns]
        yield b"|".join([prompt_id.encode(), *(f"{len(part)}:".encode() + part for part in parts)])


def write_batches(run: RunDir, table: pa.Table, encoder: Encoder) -> None:
    """The batches, with a note of what encoded them and the tokens of a refusal for rows that need none."""
    note = {"tokenizer": encoder.digest, "refusal": encoder.span(REFUSALS[0])}
    run.write_table(BATCHES, table.replace_schema_metadata({"encoding": json.dumps(note)}))


def check_encoding(run: RunDir, model: ModelConfig) -> None:
    """Batches hold tokens, which mean nothing to a model with another tokenizer or template."""
    with run.open_parquet(BATCHES) as batches:
        stored = encoding_of(batches)
    if stored["tokenizer"] != tokenizer_digest(load_chat(model)):
        raise InputError(
            f"was composed with another tokenizer or chat template than that of {model.name}; run `compose` again",
            file=run.path(BATCHES),
        )


def encoding_of(batches: pq.ParquetFile) -> dict[str, Any]:
    """What was noted of the tokens: the digest of their tokenizer, and those of a refusal."""
    return json.loads((batches.schema_arrow.metadata or {}).get(b"encoding", b'{"tokenizer": null, "refusal": []}'))
