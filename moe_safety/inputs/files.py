"""Reads a file into rows. What it is follows from its content, whatever its name, and nothing is ever unpickled.

A file is read from its beginning each time that its rows are asked for, a piece at a time; one that is a single JSON
object is read whole.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.errors import InputError
from moe_safety.rundir import broken, file_digest, open_parquet, open_uri

PARQUET_MAGIC = b"PAR1"
_LONGEST_FIELD = 2**31 - 1  # The most that csv takes everywhere: it keeps its limit in a C long.
_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")

NumberedRows = Iterator[tuple[int, Any]]


@dataclass(frozen=True)
class Content:
    """Numbered rows, counted from 1, and the names of all their columns."""

    container: str
    columns: frozenset[str]
    read: Callable[[], NumberedRows]
    whole: dict[str, Any] | None = None
    """The one object that the file is, which some formats have rows in."""

    @property
    def rows(self) -> NumberedRows:
        """The rows, read anew."""
        return self.read()

    def unfolded(self, rows: Iterable[Any], path: str) -> Content:
        """The content with these rows of the whole."""
        held = list(rows)
        return _content("json", lambda: enumerate(held, 1), path)


def open_file(path: str) -> Content:
    """The rows of a JSON list, JSON lines, CSV or Parquet file, or the one object of a JSON file."""
    with _open(path) as stream:
        magic = stream.read(len(PARQUET_MAGIC))
    if magic == PARQUET_MAGIC:
        return _parquet(path)
    match _first_character(path):
        case "":
            raise InputError("the file is empty", file=path)
        case "[":
            return _content("json", partial(_elements, path), path)
        case "{":
            whole = _one_object(path)
            if whole is None:
                return _content("jsonl", partial(_json_lines, path), path)
            return Content("jsonl", frozenset(whole[1]), lambda: iter([whole]), whole[1])
    return _csv(path)


def digest_of(path: str) -> str:
    """The file's hash, by which a stage knows that its input has changed."""
    if "://" in path:
        digest = hashlib.sha256()
        with _open(path) as stream:
            while piece := stream.read(_CHUNK):
                digest.update(piece)
        return digest.hexdigest()
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


@contextmanager
def _open(path: str) -> Iterator[IO[bytes]]:
    with _one_line(path), _stream(path) as stream:
        yield stream


def _stream(path: str) -> IO[bytes]:
    if "://" not in path:
        return local_path(path).open("rb")
    filesystem, place = open_uri(path, "data")
    stream: IO[bytes] = filesystem.open_input_stream(place, buffer_size=_CHUNK)
    return stream


@contextmanager
def _text(path: str, newline: str = "") -> Iterator[IO[str]]:
    with _open(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline=newline) as text:
        yield text


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


def _first_character(path: str) -> str:
    """The first that is no white space, or nothing; an error where the file is not text to its end."""
    first, lines = "", 0
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with _open(path) as stream:
        for piece in chain(iter(partial(stream.read, _CHUNK), b""), [b""]):
            try:
                text = decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                lines += error.object.count(b"\n", 0, error.start)
                raise InputError(f"is neither Parquet nor UTF-8 text (line {lines + 1})", file=path) from None
            lines += text.count("\n")
            first = first or text.lstrip()[:1]
    return first


def _elements(path: str) -> NumberedRows:
    """The elements of a JSON list. Of the text no more is held than the longest element takes, twice, or a piece."""
    with _text(path) as file:
        text, at, number = "", 0, 0
        while True:
            try:
                found, at = _next_element(text, at, number)
            except (ValueError, IndexError, RecursionError):  # cut off, or broken
                if not (more := file.read(max(_CHUNK, len(text) - at))):
                    break
                text, at = text[at:] + more, 0
                continue
            for element in found:
                number += 1
                yield number, element
            if text[at] == "]":
                if _SPACE.fullmatch(text, at + 1) and all(map(_SPACE.fullmatch, iter(partial(file.read, _CHUNK), ""))):
                    return
                break
    with _text(path) as file:
        _parse_json(file.read(), path)  # says where
    raise InputError("is not JSON", file=path)


def _next_element(text: str, at: int, number: int) -> tuple[list[Any], int]:
    """What stands behind the bracket or comma here, an element or nothing, and where the next of these is."""
    at = _after_space(text, at)
    if text[at] != ("," if number else "["):
        raise ValueError
    at = _after_space(text, at + 1)
    if not number and text[at] == "]":
        return [], at
    element, at = json.JSONDecoder().raw_decode(text, at)
    at = _after_space(text, at)
    if text[at] not in ",]":
        raise ValueError
    return [element], at


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    assert space
    return space.end()


def _one_object(path: str) -> tuple[int, dict[str, Any]] | None:
    """The object, if the file is one and nothing else, and its line."""
    with _text(path, "\n") as file:
        number, first = next((number, line) for number, line in enumerate(file, 1) if line.strip())
        try:
            found = json.loads(first)
        except (ValueError, RecursionError):  # It may go on in the next line.
            text = (first + file.read()).lstrip()
        else:
            return None if any(line.strip() for line in file) else (number, found)
    try:
        found, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return None if text[end:].strip() else (number, found)


def _json_lines(path: str) -> NumberedRows:
    # By this ending alone: inside JSON strings U+2028 and the like are ordinary characters.
    with _text(path, "\n") as file:
        for number, line in enumerate(file, 1):
            if not line.isspace():
                yield number, _parse_json(line.removesuffix("\n"), path, number)


def _parse_json(text: str, path: str, row: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = "" if row else f"line {error.lineno} "
        raise InputError(f"is not JSON: {error.msg} at {line}column {error.colno}", file=path, row=row) from None
    except (ValueError, RecursionError) as error:  # a number, or a nesting, beyond all measure
        raise InputError(f"is not JSON: {error}", file=path, row=row) from None


def _content(container: str, read: Callable[[], NumberedRows], path: str) -> Content:
    rows, columns, number = read(), set[str](), 0
    for number, row in rows:
        if not isinstance(row, dict):
            if container == "json":
                deque(rows, maxlen=0)  # A list that is broken further on is no JSON at all.
            raise InputError(f"is not an object but a {type(row).__name__}", file=path, row=number)
        columns.update(row)
    if not number:
        raise InputError("has no rows", file=path)
    return Content(container, frozenset(columns), read)


def _csv(path: str) -> Content:
    header = [name.strip() for name in next(_csv_rows(path))]
    for name in header:
        if name and header.count(name) > 1:
            raise InputError(f"has two columns named {name[:30]!r}", file=path)
    # A column without a name is the row number that pandas writes.
    return Content("csv", frozenset(filter(None, header)), partial(_csv_records, header, path))


def _csv_rows(path: str) -> Iterator[list[str]]:
    csv.field_size_limit(_LONGEST_FIELD)
    number = 0
    with _text(path) as file:
        try:
            for row in csv.reader(file, strict=True):
                if row:
                    yield row
                    number += 1
        except csv.Error as error:
            raise InputError(f"is not CSV: {error}", file=path, row=number or None) from None


def _csv_records(header: list[str], path: str) -> NumberedRows:
    rows = _csv_rows(path)
    next(rows)
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise InputError(f"has {len(row)} fields where the header has {len(header)}", file=path, row=number)
        yield number, dict(zip(header, row, strict=True))


def _parquet(path: str) -> Content:
    with _parquet_file(path) as file:
        return Content("parquet", frozenset(file.schema_arrow.names), partial(_parquet_rows, path))


def _parquet_file(path: str) -> pq.ParquetFile:
    if "://" not in path:
        return open_parquet(local_path(path), path)
    filesystem, place = open_uri(path, "data")
    return open_parquet(place, path, filesystem)


def _parquet_rows(path: str) -> NumberedRows:
    number = 0
    try:
        with _parquet_file(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise broken(path, error) from None
