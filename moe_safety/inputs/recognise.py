"""Which format a source has, and which of its columns is which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from moe_safety.config import FORMATS, Source
from moe_safety.errors import InputError
from moe_safety.inputs.format import Format


def columns_of(source: Source, found: Set[str]) -> dict[str, str]:
    """The source's column for each of this program's names: the one that `columns` says, else the one called so."""
    # Capitals sort first, so of `Goal` and `goal` the latter stays.
    names = {column.lower(): column for column in sorted(found)}
    for ours, theirs in source.columns.items():
        column = theirs if theirs in found else names.get(theirs.lower())
        if column is None:
            raise InputError(f"has no column {theirs!r} ({_listed(found)})", file=source.label)
        names[ours] = column
    return names


def recognise(source: Source, container: str, names: Set[str]) -> Format:
    """The configured format, else the first one that these columns match."""
    if source.format is not None:
        return FORMATS.get(source.format)
    # A package that is installed never changes how a file of a format of ours is read.
    for known in _by_precedence(), FORMATS.brought():
        if found := next((one for one in known if one.matches(names)), None):
            return found
    if container == "csv":
        problem = f"is no JSON of objects and no Parquet, and as CSV it has no column goal or prompt ({_listed(names)})"
    else:
        problem = f"is not a known format ({_listed(names)}); set `format` or `columns` of this source"
    raise InputError(problem, file=source.label)


def unfolded(source: Source, whole: Mapping[str, Any]) -> tuple[list[Any], Format | None]:
    """The rows in a file that is one object, and the format that knows of them; none where no format does."""
    known = [FORMATS.get(source.format)] if source.format else [*_by_precedence(), *FORMATS.brought()]
    for form in known:
        rows = form.unfold(whole) if form.unfold else None
        if rows is not None:
            return list(rows), form
    return [], None


def _by_precedence() -> list[Format]:
    return sorted(FORMATS.own(), key=lambda one: one.precedence)


def _listed(columns: Iterable[str]) -> str:
    # Cut short: where a file has no header, its first request stands in place of the names.
    short = sorted(repr(column[:20]) for column in columns)
    return f"its columns: {', '.join(short[:12]) or 'none'}"
