"""`prompts.parquet`: its schema, its ids, and the table made from prompts."""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.inputs.conversation import Message
from moe_safety.rundir import refusals

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

_ENCODER = json.JSONEncoder(ensure_ascii=False)
_SPOOLED = pa.schema([column for column in PROMPTS_SCHEMA if column.name not in ("split", "category")])
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
    return _hash(_ENCODER.encode([[message["role"], message["content"]] for message in messages]))


class Spool:
    """Prompts in order, in a file of the temporary folder: memory holds the last ten thousand."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # It stays open until all are there.
        self._writer = pa.ipc.new_file(pa.PythonFile(self._file, "w"), _SPOOLED)
        self._waiting: list[Prompt] = []

    def add(self, prompt: Prompt) -> None:
        """Takes the next one. Its category is told at the end, as its split is: both belong to its goal."""
        self._waiting.append(prompt)
        if len(self._waiting) == _ROWS_PER_BATCH:
            self._write()

    def close(self, split: pa.Array, category: pa.Array) -> Spooled:
        """All of them as a table, with these columns."""
        self._write()
        with refusals(tempfile.gettempdir()):
            self._writer.close()
            self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
        ends = np.cumsum([len(chunk) for chunk in table["prompt_id"].chunks])
        for name, values in (("split", split), ("category", category)):
            chunks = [values[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
            table = table.add_column(len(table.column_names), name, pa.chunked_array(chunks, pa.string()))
        return Spooled(table.select(PROMPTS_SCHEMA.names), mapped)

    def _write(self) -> None:
        if self._waiting:
            with refusals(tempfile.gettempdir()):
                self._writer.write_batch(pa.RecordBatch.from_arrays([*map(self._column, _SPOOLED)], schema=_SPOOLED))
            self._waiting = []

    def _column(self, column: pa.Field) -> pa.Array:
        values: list[Any] = [getattr(prompt, column.name) for prompt in self._waiting]
        if column.name == "columns":
            values = [list(one.items()) for one in values]
        return pa.array(values, type=column.type)


@dataclass(frozen=True)
class Spooled:
    """A table whose texts stand in a file."""

    table: pa.Table
    mapped: mmap.mmap

    def write(self, path: str) -> None:
        """Writes it as Parquet."""
        with _Forgetting(path, self.mapped) as file:
            pq.write_table(self.table, file)


class _Forgetting(io.BufferedWriter):
    """A file to write. With each piece the process lets go of what it has read of another, which it would seem to hold
    in memory, and which is read again where it is needed."""

    def __init__(self, path: str, read: mmap.mmap) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self._read_from = read

    def write(self, data: Any) -> int:
        self._read_from.madvise(mmap.MADV_DONTNEED)
        return super().write(data)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
