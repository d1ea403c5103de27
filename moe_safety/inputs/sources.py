"""Reads one source of the configuration into rows, and keeps account of what was left out.

Every source is read through once, to find what is wrong with it, and again by whoever takes its rows: memory holds a
row at a time, unless its format needs all of them.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from moe_safety.config import FORMATS, NUMBERING, DataConfig, Source
from moe_safety.errors import InputError
from moe_safety.inputs.files import Content, digest_of, folder_digest, open_file
from moe_safety.inputs.format import Format
from moe_safety.inputs.hub import open_dataset
from moe_safety.inputs.numbering import Numbering
from moe_safety.inputs.recognise import columns_of, recognise, unfolded
from moe_safety.inputs.record import Context, Record, Role, Row, Skipped, is_missing


@dataclass(frozen=True)
class Rows:
    """The rows of a source that pass its filters: read anew each time."""

    read: Callable[[], Iterator[Row]]
    count: int

    def __iter__(self) -> Iterator[Row]:
        return self.read()

    def __len__(self) -> int:
        return self.count


@dataclass
class SourceRows:
    """The rows that one source gives, and its account."""

    source: Source
    role: Role
    format: Format
    container: str
    rows: Rows = Rows(partial(iter, ()), 0)
    read: int = 0
    words_plain: bool = False
    """Whether a row has the plain form of its goal in words of its own."""
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    prompts: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)

    def account(self) -> dict[str, Any]:
        """The counts that are printed and kept in the manifest."""
        return {
            "source": self.source.label,
            "role": self.role,
            "format": self.format.name,
            "container": self.container,
            "rows": self.read,
            "dropped": dict(self.dropped),
            "prompts": dict(self.prompts),
            "duplicates": dict(self.duplicates),
            "notes": self.notes,
        }


def digests(sources: Iterable[Source]) -> dict[str, str]:
    """The hash of each source that is a file or a local folder; a dataset of the hub is known by its revision."""
    found = {}
    for source in sources:
        if source.goals:
            found[source.goals] = digest_of(source.goals)
        if source.path:
            found[source.label] = digest_of(source.path)
        elif os.path.isdir(source.label):
            found[source.label] = folder_digest(source.label)
    return found


def formats_brought(sources: Iterable[Source]) -> dict[str, str]:
    """What sources are known by that are read in formats of other packages. Where some are installed, a source has to
    be opened to see which format it has."""
    found: dict[str, str] = {}
    if len(FORMATS.names()) == len(FORMATS.own()):
        return found
    for source in sources:
        found |= FORMATS.identity(source.format or _open(source)[2].name)
    return found


def _open(source: Source) -> tuple[Content, dict[str, str], Format]:
    """What is in a source, its column for each of this program's names, and its format."""
    content = open_dataset(source) if source.dataset else open_file(source.label)
    if content.whole is not None:
        rows, form = unfolded(source, content.whole)
        if form:
            content = content.unfolded(rows, source.label)
            return content, columns_of(source, content.columns), form
        # One object alone could be a line; here only the name tells what its writer meant.
        if source.label.endswith(".json"):
            raise InputError("is not a list of objects but a single one", file=source.label)
    names = columns_of(source, content.columns)
    return content, names, recognise(source, content.container, names.keys())


def read_source(source: Source, role: Role, data: DataConfig, *, prefills: bool = False) -> SourceRows:
    """The rows of a source that pass its filters, in file order, at most `data.max_samples` of them. `prefills` says
    whether a conversation may end in an assistant's opening."""
    content, names, form = _open(source)
    result = SourceRows(source, role, form, content.container)
    context = Context(
        source.label,
        role,
        frozenset(names),
        source.attack,
        data.only_successful,
        _goals(source.goals) if source.goals else {},
        prefills,
        result.notes,
    )
    kept, wrappable = 0, False
    for row in form.rows(_with_own_ids(_records(content, names, source.label)), context):
        result.read += 1
        if isinstance(row, Skipped):
            result.dropped[row.reason] += 1
            continue
        kept, wrappable = kept + 1, wrappable or row.plain
        result.words_plain = result.words_plain or (row.label == "safe" and bool(row.messages))
        if kept == data.max_samples:
            break
    if not result.read:
        raise InputError("has no rows", file=source.label)
    if source.wrapper and kept and not wrappable:
        raise InputError(
            "`wrapper` is for plain requests, and this source brings its own attack forms", file=source.label
        )

    def again() -> Iterator[Row]:
        told_before = replace(context, notes=[])
        return islice(_with_columns(form, _records(content, names, source.label), told_before), kept)

    result.rows = Rows(again, kept)
    return result


def _with_columns(form: Format, records: Iterator[Record], context: Context) -> Iterator[Row]:
    """The rows that a format makes of records, with what else these have that batches can be grouped by."""
    known, further = {*form.columns, *NUMBERING}, dict[int, Mapping[str, str]]()
    taken = given = 0

    def noted() -> Iterator[Record]:
        nonlocal taken
        for record in records:
            if given >= taken:  # The format has done with all before.
                further.clear()
            taken += 1
            further[record.number] = record.further(known)
            yield record

    for row in form.rows(noted(), context):
        given += 1
        if isinstance(row, Row):
            columns = further.get(row.number, {})
            yield replace(row, columns=columns) if columns or row.columns else row


def _goals(path: str) -> dict[str, tuple[str, str | None]]:
    """Goals and categories by their ids, from a table of behaviours as HarmBench has it."""
    content, found = open_file(path), dict[str, tuple[str, str | None]]()
    names = columns_of(Source(path=path), content.columns)
    for number, values in content.rows:
        record = Record(path, number, {ours: values[theirs] for ours, theirs in names.items() if theirs in values})
        id_ = record.text("behaviorid", "id")
        if id_ is None:
            raise record.error("has no BehaviorID, and no id")
        found[id_] = record.goal("behavior", "goal"), record.category("semanticcategory", "category")
    return found


def _records(content: Content, names: dict[str, str], label: str) -> Iterator[Record]:
    for number, values in content.rows:
        yield Record(label, number, {ours: values[theirs] for ours, theirs in names.items() if theirs in values})


def _with_own_ids(records: Iterator[Record]) -> Iterator[Record]:
    """The records; an error where one has the id of another. Ids are told apart by hashes, since they may be many."""
    ids, places = Numbering(), array("q")
    for record in records:
        id_ = record.values.get("id", record.values.get("index"))
        if not is_missing(id_) and id_ != "":
            number = ids.number(hash(str(id_)) % 2**64)
            if number < len(places):
                raise record.error(f"has the id {str(id_)[:30]!r} of row {places[number]}")
            places.append(record.number)
        yield record
