"""The formats, each a file with `matches` and `rows`. The first one that matches is taken."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Protocol

from moe_safety.config import FormatName
from moe_safety.inputs.formats import attack_results, flipattack, goals_csv, messages
from moe_safety.inputs.record import Context, Record, Row, Skipped


class Format(Protocol):
    def matches(self, columns: Set[str]) -> bool:
        """Whether rows with these columns are of this format."""

    def rows(self, records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
        """One row, or the reason why there is none, for each record."""


FORMATS: dict[FormatName, Format] = {
    "attack_results": attack_results,
    "flipattack": flipattack,
    "messages": messages,
    "goals_csv": goals_csv,
}
