"""`prompts.parquet`: its schema, its ids, and the table made from prompts."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from moe_safety.inputs.conversation import Message

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

PROMPTS_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("goal_id", pa.string()),
        ("goal", pa.string()),
        ("label", pa.string()),
        ("attack", pa.string()),
        ("category", pa.string()),
        ("split", pa.string()),
        ("messages", MESSAGES),
        ("answer", pa.string()),
        ("answer_ended", pa.bool_()),
        ("target", pa.string()),
        ("target_ended", pa.bool_()),
        ("source", pa.string()),
        ("columns", pa.map_(pa.string(), pa.string())),
    ]
)

_ROWS_PER_BATCH = 10_000  # keeps each Arrow string column far below its limit of 2 GiB


@dataclass(frozen=True, slots=True)
class Prompt:
    """One row of `prompts.parquet`, but for the split, which belongs to the goal."""

    prompt_id: str
    goal_id: str
    goal: str
    """What is asked for in plain words, of an attack or a control too."""
    label: str
    attack: str | None
    category: str | None
    messages: list[Message]
    answer: str | None
    answer_ended: bool | None
    """Whether the recorded answer came to its end; nothing where none is recorded."""
    target: str | None
    target_ended: bool | None
    """The same of the target."""
    source: str
    columns: Mapping[str, str] = field(default_factory=dict)
    """What else its row has, in short columns that its format does not read."""


def group_of(row: Mapping[str, Any], name: str) -> str | None:
    """What a row of `prompts.parquet` has under this name: a column of its input, or else the row's own `category`,
    `attack` or, for `source`, the file."""
    if name == "category":
        found: str | None = row["category"]
        return found
    others = dict(row.get("columns") or ())
    if name not in others and name == "source":
        return str(row["source"]).rpartition(":")[0]
    return others.get(name, row["attack"] if name == "attack" else None)


def normalise(text: str) -> str:
    """The text as goals are compared: NFKC, casefolded, each run of white space one space."""
    if not text.isascii():
        # Folding can undo the composition, so it is composed again.
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().split())


def goal_id(text: str) -> str:
    """The id of a goal: a hash of its normalised text."""
    return _hash(normalise(text))


def prompt_id(messages: Sequence[Message]) -> str:
    """The id of a prompt: a hash of its messages."""
    return _hash(json.dumps([[message["role"], message["content"]] for message in messages], ensure_ascii=False))


def to_table(prompts: Sequence[Prompt], splits: Mapping[str, str]) -> pa.Table:
    """The prompts in order, each with the split of its goal."""
    starts = range(0, len(prompts), _ROWS_PER_BATCH)
    batches = [_batch(prompts[start : start + _ROWS_PER_BATCH], splits) for start in starts]
    return pa.Table.from_batches(batches, schema=PROMPTS_SCHEMA)


def _batch(prompts: Sequence[Prompt], splits: Mapping[str, str]) -> pa.RecordBatch:
    columns = []
    for column in PROMPTS_SCHEMA:
        values: list[Any]
        if column.name == "split":
            values = [splits[prompt.goal_id] for prompt in prompts]
        elif column.name == "columns":
            values = [list(prompt.columns.items()) for prompt in prompts]
        else:
            values = [getattr(prompt, column.name) for prompt in prompts]
        columns.append(pa.array(values, type=column.type))
    return pa.RecordBatch.from_arrays(columns, schema=PROMPTS_SCHEMA)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
