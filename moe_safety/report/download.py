"""Tables as CSV, made from their own markup: what is shown is what is there, and of a rate all of its numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

_PARTS = ("value", "low", "high", "n", "n_goals", "unparsed")


def rated(rate: Mapping[str, Any] | None) -> Markup:
    """Attributes of a cell that shows a rate: what it is sorted by, and its numbers for the download."""
    if not rate or rate["value"] is None:
        return Markup()
    numbers = "|".join("" if rate[part] is None else f"{rate[part]:.6g}" for part in _PARTS if part in rate)
    return Markup(' data-value="{:.6g}" data-rate="{}"').format(rate["value"], numbers)


def address(table: str) -> str:
    """An address that holds the table as CSV."""
    return f"data:text/csv;charset=utf-8,{quote(to_csv(table), safe='')}"


def to_csv(table: str) -> str:
    """The table's rows. A column of rates becomes several."""
    reader = _Cells()
    reader.feed(table)
    head, *rows = reader.rows
    width = [max(len(row[place].numbers) for row in [head, *rows] if place < len(row)) for place in range(len(head))]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        name
        for cell, wide in zip(head, width, strict=True)
        for name in [_said(cell.text), *_named(_said(cell.text), wide)]
    )
    for row in rows:
        writer.writerow(value for cell, wide in zip(row, width, strict=False) for value in _values(cell, wide))
    return out.getvalue()


def _said(text: str) -> str:
    """A cell's words. Those that begin as a formula does are quoted, or a spreadsheet would work out what a file of
    prompts, or a plug-in, calls something."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
    return text


def _named(title: str, wide: int) -> list[str]:
    return [f"{title}, {part}" for part in _PARTS[1:wide]]


def _values(cell: _Cell, wide: int) -> list[str]:
    return cell.numbers or [_said(cell.text), *[""] * (wide - 1)]


class _Cell:
    def __init__(self, given: Mapping[str, str | None]) -> None:
        self.words: list[str] = []
        self.name = given.get("data-name")
        self.numbers = (given.get("data-rate") or "").split("|") if given.get("data-rate") else []

    @property
    def text(self) -> str:
        """What stands in it, or what it is called."""
        return self.name or " ".join("".join(self.words).split())


class _Cells(HTMLParser):
    """Reads rows of cells; captions, and what is drawn, are none."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[_Cell]] = []
        self._cell: _Cell | None = None
        self._drawing = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self._cell = _Cell(dict(attrs))
            self.rows[-1].append(self._cell)
        elif tag == "br" and self._cell:
            self._cell.words.append(" ")
        self._drawing = self._drawing or tag == "svg"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = None
        self._drawing = self._drawing and tag != "svg"

    def handle_data(self, data: str) -> None:
        if self._cell and not self._drawing:
            self._cell.words.append(data)
