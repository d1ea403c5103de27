"""What a format of input files says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from moe_safety.inputs.record import Context, Record, Row, Skipped


@dataclass(frozen=True)
class Format:
    """A format: its declaration. Columns have this program's names, whatever the source calls them."""

    name: str
    about: str
    """In a line, for the documents."""
    example: Mapping[str, Any]
    """A row, for the documents."""
    columns: frozenset[str]
    """What it reads; a source's `columns` may name these."""
    matches: Callable[[Set[str]], bool]
    """Whether rows with these columns are of this format."""
    rows: Callable[[Iterator[Record], Context], Iterator[Row | Skipped]]
    """One row, or the reason why there is none, for each record."""
    precedence: int
    """Of the formats that match, the one with the lowest number is taken; one of another package after all of ours."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The beginnings of files that people have, by what they are called, for the documents."""
    unfold: Callable[[Mapping[str, Any]], Iterable[Any] | None] | None = None
    """The rows of a JSON file that is one object; nothing where that is of another format."""
