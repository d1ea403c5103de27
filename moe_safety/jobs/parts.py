"""The finished parts of a job: one table per item. A part counts when its marker, written last, names its hash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from moe_safety.errors import InputError
from moe_safety.jobs.plan import Plan
from moe_safety.rundir import RunDir


class Parts:
    """`FOLDER/part-N.parquet` for each item N of the plan; its marker stands in `FOLDER/_done`."""

    def __init__(self, run: RunDir, folder: str, plan: Plan) -> None:
        self.run, self.folder, self.plan = run, folder, plan

    def table_name(self, item: int) -> str:
        return f"{self.folder}/part-{item:06d}.parquet"

    def marker_name(self, item: int) -> str:
        return f"{self.folder}/_done/part-{item:06d}.json"

    def commit(self, item: int, table: pa.Table, notes: dict[str, Any]) -> None:
        self.run.write_table(self.table_name(item), table)
        digest = self.run.digest(self.table_name(item))
        self.run.write_json(self.marker_name(item), {"key": self.plan.keys[item], "sha256": digest, "notes": notes})

    def unfinished(self) -> list[int]:
        """Items whose part is missing, damaged, or was made for something else."""
        there = {*self.run.names(self.folder), *self.run.names(f"{self.folder}/_done")}
        return [item for item in range(len(self.plan)) if not self._stands(item, there)]

    def _stands(self, item: int, there: set[str]) -> bool:
        if not {self.marker_name(item), self.table_name(item)} <= there:
            return False
        try:
            marker = self.run.read_json(self.marker_name(item))
        except InputError:
            return False
        return marker["key"] == self.plan.keys[item] and self.run.digest(self.table_name(item)) == marker["sha256"]

    @property
    def table_names(self) -> list[str]:
        """The parts, in the order of items."""
        return [self.table_name(item) for item in range(len(self.plan))]

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
        items = range(len(self.plan))
        there = {*self.run.names(self.folder, ".parquet"), *self.run.names(f"{self.folder}/_done", ".json")}
        for name in there - {*map(self.table_name, items), *map(self.marker_name, items)}:
            self.run.delete(name)
