"""From counts per prompt to sums per batch, category and resampling, in one pass over the parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from moe_safety.errors import InputError
from moe_safety.identify.batch_rows import BatchRows
from moe_safety.identify.experts import Experts
from moe_safety.routing.table import matrix
from moe_safety.rundir import RunDir
from moe_safety.scores import LABELS, Sums

DISTRIBUTE_ABOVE = 1_000_000
"""From how many prompts on Ray sums the parts."""

Column = Literal["counts", "weights"]
"""What of the routing is summed."""
Partial = tuple[np.ndarray, np.ndarray]
"""Cells, each at most once, and what to add to them."""


@dataclass(frozen=True)
class Reducer:
    """Sums one part. A cell is a (group, label); the groups are the batches, then the categories, then the resamplings.

    Sums of counts are exact integers, whatever the parts. Sums of weights follow the order of the parts, which the
    plan of `capture` fixes.
    """

    batch_rows: BatchRows
    experts: Experts
    times: np.ndarray
    """How often each goal counts in each resampling: [goals, resamplings]."""
    column: Column = "counts"

    @property
    def groups(self) -> tuple[int, int, int]:
        """The numbers of batches, of categories and of rounds of resampling."""
        return len(self.batch_rows.batch_ids), len(self.batch_rows.categories), self.times.shape[1]

    @property
    def reads(self) -> list[str]:
        """The columns of a part that it needs."""
        return ["prompt_id", "tokens", self.column]

    @property
    def dtype(self) -> type[np.generic]:
        """The type of the sums: whole numbers for counts."""
        return np.int64 if self.column == "counts" else np.float64

    def zeros(self) -> np.ndarray:
        """All cells, before any part."""
        return np.zeros((sum(self.groups) * len(LABELS), 1 + len(self.experts)), self.dtype)

    def __call__(self, part: pa.Table) -> Partial:
        batch_rows = self.batch_rows
        values = np.column_stack([part["tokens"].to_numpy(), matrix(part, self.column)[:, self.experts.flat]])
        row_of = np.full(len(batch_rows.prompt_ids), -1)
        known = batch_rows.prompt_ids.get_indexer(part["prompt_id"].to_pandas())
        row_of[known[known >= 0]] = np.flatnonzero(known >= 0)
        here = np.flatnonzero(row_of[batch_rows.prompt] >= 0)
        rows, label = row_of[batch_rows.prompt[here]], batch_rows.label[here]
        n_batches, n_categories, _ = self.groups
        category = batch_rows.category[here]
        partials = [
            self._sum(values, rows, label, batch_rows.batch[here]),
            self._sum(values, rows[category >= 0], label[category >= 0], n_batches + category[category >= 0]),
            *self._resample(values, rows, label, batch_rows.goal[here], n_batches + n_categories),
        ]
        cells, sums = zip(*partials, strict=True)
        return np.concatenate(cells), np.concatenate(sums)

    def _sum(self, values: np.ndarray, rows: np.ndarray, label: np.ndarray, group: np.ndarray) -> Partial:
        cell = group * len(LABELS) + label
        order = np.argsort(cell, kind="stable")
        cells, starts = np.unique(cell[order], return_index=True)
        if not len(cells):
            return cells, np.zeros((0, values.shape[1]), self.dtype)
        return cells, np.add.reduceat(values[rows[order]], starts, axis=0, dtype=self.dtype)

    def _resample(
        self, values: np.ndarray, rows: np.ndarray, label: np.ndarray, goal: np.ndarray, first: int
    ) -> list[Partial]:
        """A product with the resamplings, in pieces so small that float32 holds its integers exactly."""
        step = max(1, 2**24 // max(1, int(values[:, 0].max(initial=0)) * int(self.times.max())))
        partials = []
        for code in np.unique(label):
            mine = np.flatnonzero(label == code)
            sums = np.zeros((self.times.shape[1], values.shape[1]), self.dtype)
            for start in range(0, len(mine), step):
                piece = mine[start : start + step]
                times = self.times[goal[piece]].astype(np.float32)
                sums += (times.T @ values[rows[piece]].astype(np.float32)).astype(self.dtype)
            partials.append(((first + np.arange(len(sums))) * len(LABELS) + code, sums))
        return partials


@dataclass(frozen=True)
class Reduction:
    """The sums that everything else is computed from."""

    batches: Sums
    categories: Sums
    resamples: Sums


def reduce_parts(
    run: RunDir, files: Sequence[str], reducer: Reducer, distribute_above: int = DISTRIBUTE_ABOVE
) -> Reduction:
    """Sums all parts, one at a time here or many at once on Ray: the same integers."""
    total = reducer.zeros()
    distribute = len(reducer.batch_rows.prompt_ids) > distribute_above
    for cells, sums in (_on_ray if distribute else _here)(run, files, reducer):
        total[cells] += sums
    groups = Sums(total.reshape(-1, len(LABELS), total.shape[1]))
    n_batches, n_categories, _ = reducer.groups
    middle = n_batches + n_categories
    return Reduction(groups[:n_batches], groups[n_batches:middle], groups[middle:])


def _here(run: RunDir, files: Sequence[str], reducer: Reducer) -> Iterator[Partial]:
    for name in files:
        yield reducer(run.read_table(name, reducer.reads))


def _on_ray(run: RunDir, files: Sequence[str], reducer: Reducer) -> Iterator[Partial]:
    import ray

    from moe_safety.jobs.cluster import connect
    from moe_safety.jobs.pool import release_replicas

    connect()
    # Tables are added up on processors, which replicas may hold.
    release_replicas()

    def sum_part(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        cells, sums = reducer(run.read_table(str(batch["file"][0]), reducer.reads))
        return {"cell": cells, "sums": sums}

    items = ray.data.from_items([{"file": name} for name in files], override_num_blocks=len(files))
    # The order matters to sums of weights alone, which are not integers.
    items.context.execution_options.preserve_order = True
    partials = items.map_batches(sum_part, batch_size=1)
    for block in partials.iter_batches(batch_size=None, batch_format="numpy"):
        yield block["cell"], block["sums"]


def check_coverage(run: RunDir, files: Sequence[str], batch_rows: BatchRows) -> int:
    """Every prompt of the batches is counted once. Returns how many of them have no counted token."""
    times = np.zeros(len(batch_rows.prompt_ids), np.int64)
    uncounted = 0
    for name in files:
        part = run.read_table(name, ["prompt_id", "tokens"])
        found = batch_rows.prompt_ids.get_indexer(part["prompt_id"].to_pandas())
        np.add.at(times, found[found >= 0], 1)
        uncounted += int((part["tokens"].to_numpy()[found >= 0] == 0).sum())
    for wrong, complaint in ((times == 0, "do not hold"), (times > 1, "hold more than once")):
        if wrong.any():
            prompt = batch_rows.prompt_ids[int(np.argmax(wrong))]
            raise InputError(f"the counts {complaint} prompt {prompt} of the batches", file=run.path("routing"))
    return uncounted
