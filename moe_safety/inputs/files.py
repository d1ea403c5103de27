"""Reads a file into rows. What it is follows from its content, whatever its name, and nothing is ever unpickled."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.errors import InputError
from moe_safety.rundir import broken, file_digest, open_parquet, open_uri

PARQUET_MAGIC = b"PAR1"
_LONGEST_FIELD = 2**31 - 1  # The most that csv takes everywhere: it keeps its limit in a C long.


@dataclass(frozen=True)
class Content:
    """Numbered rows, counted from 1, and the names of all their columns."""

    container: str
    columns: frozenset[str]
    rows: Iterable[tuple[int, Any]]
    whole: dict[str, Any] | None = None
    """The one object that the file is, which some formats have rows in."""

    def unfolded(self, rows: Iterable[Any], path: str) -> Content:
        """The content with these rows of the whole."""
        return _content("json", enumerate(rows, 1), path)


def open_file(path: str) -> Content:
    """The rows of a JSON list, JSON lines, CSV or Parquet file, or the one object of a JSON file."""
    data = _read(path)
    if data.startswith(PARQUET_MAGIC):
        return _parquet(data, path)
    text = _decode(data, path)
    del data
    match next((character for character in text if not character.isspace()), None):
        case None:
            raise InputError("the file is empty", file=path)
        case "[":
            return _json_list(text, path)
        case "{":
            whole = _one_object(text)
            if whole is None:
                return _json_lines(text, path)
            line = text[: text.index("{")].count("\n") + 1
            return Content("jsonl", frozenset(whole), [(line, whole)], whole)
    return _csv(text, path)


def digest_of(path: str) -> str:
    """The file's hash, by which a stage knows that its input has changed."""
    if "://" in path:
        return hashlib.sha256(_read(path)).hexdigest()
    with _one_line(path):
        return file_digest(local_path(path))


def folder_digest(folder: str) -> str:
    """The hash of a folder's files, their names and what is in them, but for hidden ones, which hold no rows."""
    with _one_line(folder):
        named = ((path.relative_to(folder), path) for path in Path(folder).rglob("*") if path.is_file())
        found = sorted(
            (name.as_posix(), file_digest(path))
            for name, path in named
            if not any(part.startswith(".") for part in name.parts)
        )
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def local_path(path: str) -> Path:
    """Where a file stands; `demo:NAME` is one of those that come with the demo model."""
    if path.startswith("demo:"):
        from moe_safety.models.demo import demo_folder

        return demo_folder() / path.removeprefix("demo:")
    return Path(path)


def _read(path: str) -> bytes:
    with _one_line(path):
        if "://" not in path:
            return local_path(path).read_bytes()
        filesystem, place = open_uri(path, "data")
        with filesystem.open_input_stream(place) as stream:
            return stream.read()


@contextmanager
def _one_line(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise InputError("no such file", file=path) from None
    except IsADirectoryError:
        raise InputError("is a folder, not a file", file=path) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from None


def _decode(data: bytes, path: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"is neither Parquet nor UTF-8 text (line {line})", file=path) from None


def _json_list(text: str, path: str) -> Content:
    return _content("json", enumerate(_parse_json(text, path), 1), path)


def _one_object(text: str) -> dict[str, Any] | None:
    """The object, if the text is one and nothing else."""
    try:
        found, end = json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and not text.lstrip()[end:].strip() else None


def _json_lines(text: str, path: str) -> Content:
    # Not splitlines(): inside JSON strings U+2028 and the like are ordinary characters.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if not line.isspace() and line]
    return _content("jsonl", ((number, _parse_json(line, path, number)) for number, line in lines), path)


def _parse_json(text: str, path: str, row: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = "" if row else f"line {error.lineno} "
        raise InputError(f"is not JSON: {error.msg} at {line}column {error.colno}", file=path, row=row) from None
    except (ValueError, RecursionError) as error:  # a number, or a nesting, beyond all measure
        raise InputError(f"is not JSON: {error}", file=path, row=row) from None


def _content(container: str, rows: Iterable[tuple[int, Any]], path: str) -> Content:
    objects: list[tuple[int, dict[str, Any]]] = []
    columns: set[str] = set()
    for number, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"is not an object but a {type(row).__name__}", file=path, row=number)
        columns.update(row)
        objects.append((number, row))
    if not objects:
        raise InputError("has no rows", file=path)
    return Content(container, frozenset(columns), objects)


def _csv(text: str, path: str) -> Content:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = _csv_rows(reader, path)
    header = [name.strip() for name in next(rows)]
    for name in header:
        if name and header.count(name) > 1:
            raise InputError(f"has two columns named {name[:30]!r}", file=path)
    # A column without a name is the row number that pandas writes.
    return Content("csv", frozenset(filter(None, header)), _csv_records(rows, header, path))


def _csv_rows(reader: Iterator[list[str]], path: str) -> Iterator[list[str]]:
    number = 0
    try:
        for row in reader:
            if row:
                yield row
                number += 1
    except csv.Error as error:
        raise InputError(f"is not CSV: {error}", file=path, row=number or None) from None


def _csv_records(rows: Iterator[list[str]], header: list[str], path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise InputError(f"has {len(row)} fields where the header has {len(header)}", file=path, row=number)
        yield number, dict(zip(header, row, strict=True))


def _parquet(data: bytes, path: str) -> Content:
    file = open_parquet(pa.BufferReader(data), path)
    return Content("parquet", frozenset(file.schema_arrow.names), _parquet_rows(file, path))


def _parquet_rows(file: pq.ParquetFile, path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    try:
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise broken(path, error) from None
