"""A plan: the work items of a job, fixed by their prompts and the configuration alone, never by who does the work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.rundir import RunDir


class Plan:
    """A Parquet file with one row group per item, so that a worker reads its own item and nothing else."""

    def __init__(self, run: RunDir, name: str) -> None:
        self.run, self.name = run, name
        self._file: pq.ParquetFile | None = None

    def write(self, items: Iterable[pa.Table], schema: pa.Schema, identity: str) -> None:
        """Stores the items' rows. `identity` stands for all that decides them and what is made of them."""
        keys = []
        with self.run.writing(self.name) as path, pq.ParquetWriter(path, schema) as writer:
            for item, rows in enumerate(items):
                writer.write_table(rows, row_group_size=len(rows))
                keys.append(_key(identity, item, rows))
            writer.add_key_value_metadata({"identity": identity, "keys": json.dumps(keys)})
        self._file = None

    def stands(self, identity: str) -> bool:
        """Whether the plan is there already, made of the same things."""
        return self.run.exists(self.name) and self._metadata(b"identity") == identity

    def __len__(self) -> int:
        return self._open().num_row_groups

    def rows(self, item: int) -> pa.Table:
        """The rows of a work item."""
        return self._open().read_row_group(item)

    @cached_property
    def keys(self) -> list[str]:
        """What each item is; a part made for another item, plan or model has another key."""
        return json.loads(self._metadata(b"keys"))

    def _metadata(self, name: bytes) -> str:
        return self._open().metadata.metadata[name].decode()

    def _open(self) -> pq.ParquetFile:
        if self._file is None:
            self._file = self.run.open_parquet(self.name)
        return self._file


def _key(identity: str, item: int, rows: pa.Table) -> str:
    digest = hashlib.sha256(f"{identity}:{item}".encode())
    for batch in rows.combine_chunks().to_batches():
        digest.update(batch.serialize())
    return digest.hexdigest()


def pack(sizes: Sequence[int] | np.ndarray, budget: int) -> list[np.ndarray]:
    """Groups rows of like size: each group's rows, padded to its longest, hold at most `budget` tokens together.

    A row larger than the budget stands alone. Follows from the sizes alone; ties keep the rows' order.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    groups: list[np.ndarray] = []
    start = 0
    while start < len(order):
        end = start + max(1, budget // max(1, int(sizes[order[start]])))
        groups.append(order[start:end])
        start = end
    return groups


def spread(groups: Sequence[np.ndarray], at_most: int = 256) -> list[Sequence[np.ndarray]]:
    """Items of one or more groups each. Few groups are an item each; many are gathered, so that a long job has items
    that outweigh what each costs to hand out and to store."""
    size = max(1, -(-len(groups) // at_most))
    return [groups[start : start + size] for start in range(0, len(groups), size)]
