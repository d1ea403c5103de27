"""A plan: the work items of a job, fixed by their prompts and the configuration alone, never by who does the work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.rundir import RunDir


class Plan:
    """A Parquet file with one row group per item, so that a worker reads its own item and nothing else."""

    def __init__(self, run: RunDir, name: str) -> None:
        self.run, self.name = run, name
        self._file: pq.ParquetFile | None = None

    def write(self, items: Iterable[pa.Table], schema: pa.Schema, identity: str) -> None:
        """Stores the items' rows. `identity` stands for all else that decides results, the model for one."""
        with self.run.writing(self.name) as path, pq.ParquetWriter(path, schema) as writer:
            for rows in items:
                writer.write_table(rows, row_group_size=len(rows))
            writer.add_key_value_metadata({"identity": identity})
        self._file = None

    def __len__(self) -> int:
        return self._open().num_row_groups

    def rows(self, item: int) -> pa.Table:
        return self._open().read_row_group(item)

    def key(self, item: int, rows: pa.Table) -> str:
        """Says what the item is; a part made for another item, plan or model has another key."""
        digest = hashlib.sha256(f"{self._identity}:{item}".encode())
        for batch in rows.to_batches():
            digest.update(batch.serialize())
        return digest.hexdigest()

    @property
    def _identity(self) -> str:
        return self._open().metadata.metadata[b"identity"].decode()

    def _open(self) -> pq.ParquetFile:
        if self._file is None:
            self._file = self.run.open_parquet(self.name)
        return self._file


def pack(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Groups rows of like size: each group's rows, padded to its longest, hold at most `budget` tokens together.

    A row larger than the budget stands alone. Follows from the sizes alone; ties keep the rows' order.
    """
    order = sorted(range(len(sizes)), key=lambda row: (-sizes[row], row))
    groups: list[list[int]] = []
    for row in order:
        if groups and (len(groups[-1]) + 1) * sizes[groups[-1][0]] <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
