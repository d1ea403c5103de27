"""The finished parts of a job: one table per item, or several. A part counts when its marker, written last, names the
hash of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import pyarrow as pa

from moe_safety.errors import InputError
from moe_safety.jobs.plan import Plan
from moe_safety.rundir import RunDir

Part: TypeAlias = pa.Table | tuple[pa.Table, ...]
"""What is made of an item: a table, or one for each folder of the parts."""


class Parts:
    """`FOLDER/part-N.parquet` for each item N of the plan; its marker stands in `FOLDER/_done`. Where a part has more
    tables than one, the others stand under the same name in the folders `beside`."""

    def __init__(self, run: RunDir, folder: str, plan: Plan, *beside: str) -> None:
        self.run, self.folder, self.plan, self.beside = run, folder, plan, beside

    def table_name(self, item: int, folder: str | None = None) -> str:
        """The name of an item's part, or of its table in a folder beside."""
        return f"{folder or self.folder}/part-{item:06d}.parquet"

    def marker_name(self, item: int) -> str:
        """The name of the file that makes an item's part count."""
        return f"{self.folder}/_done/part-{item:06d}.json"

    def commit(self, item: int, part: Part, notes: dict[str, Any]) -> None:
        """Writes an item's part, then its marker."""
        tables: tuple[pa.Table, ...] = part if isinstance(part, tuple) else (part,)
        for name, table in zip(self._names(item), tables, strict=True):
            self.run.write_table(name, table)
        marker = {"key": self.plan.keys[item], "sha256": self._digests(item), "notes": notes}
        self.run.write_json(self.marker_name(item), marker)

    def _names(self, item: int) -> list[str]:
        return [self.table_name(item, folder) for folder in (self.folder, *self.beside)]

    def _digests(self, item: int) -> list[str]:
        return [self.run.digest(name) for name in self._names(item)]

    def unfinished(self) -> list[int]:
        """Items whose part is missing, damaged, or was made for something else."""
        folders = (self.folder, *self.beside, f"{self.folder}/_done")
        there = {name for folder in folders for name in self.run.names(folder)}
        return [item for item in range(len(self.plan)) if not self._stands(item, there)]

    def _stands(self, item: int, there: set[str]) -> bool:
        if not {self.marker_name(item), *self._names(item)} <= there:
            return False
        try:
            marker = self.run.read_json(self.marker_name(item))
        except InputError:
            return False
        return marker["key"] == self.plan.keys[item] and self._digests(item) == marker["sha256"]

    @property
    def table_names(self) -> list[str]:
        """The parts, in the order of items."""
        return self.names_in(self.folder)

    def names_in(self, folder: str) -> list[str]:
        """The parts' tables in one of the folders, in the order of items."""
        return [self.table_name(item, folder) for item in range(len(self.plan))]

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The parts' tables, in the order of items, so that a fold over them has one result."""
        for name in self.table_names:
            yield self.run.read_table(name, columns)

    def notes(self) -> dict[str, Any]:
        """What items had to say, by item."""
        noted = {str(item): self.run.read_json(self.marker_name(item))["notes"] for item in range(len(self.plan))}
        return {item: notes for item, notes in noted.items() if notes}

    def remove_strangers(self) -> None:
        """Deletes parts beyond the plan, left by a larger one, and their markers."""
        there = {name for folder in (self.folder, *self.beside) for name in self.run.names(folder, ".parquet")}
        there |= {*self.run.names(f"{self.folder}/_done", ".json")}
        known = {name for item in range(len(self.plan)) for name in (*self._names(item), self.marker_name(item))}
        for name in there - known:
            self.run.delete(name)
