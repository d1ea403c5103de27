"""From counts per prompt to sums per batch, category and resampling, a stretch of batches at a time.

A stretch reads the parts that hold its prompts. `capture` groups prompts by stretches, so that these are its own and
those of prompts that stand in several. Batches that were formed anew since then are of other stretches: the sums are
the same, and parts are read more than once.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from moe_safety.errors import InputError, MoeSafetyError, RunError, last_line
from moe_safety.identify.batch_rows import BatchRows
from moe_safety.identify.experts import Experts
from moe_safety.identify.resampling import Resampling
from moe_safety.routing.table import matrix
from moe_safety.rundir import RunDir
from moe_safety.scores import LABELS, Sums

DISTRIBUTE_ABOVE = 250_000
"""From how many prompts on Ray sums the stretches."""

Column = Literal["counts", "weights"]
"""What of the routing is summed."""


@dataclass(frozen=True)
class Coverage:
    """Where the prompts of the batches are counted, each once."""

    part: np.ndarray
    """In which of the files each prompt is."""
    uncounted: int
    """Prompts without a counted token."""


@dataclass(frozen=True)
class Reduction:
    """The sums that everything else is computed from. Those of a stretch have its batches; the sums of categories and
    resamplings add up over the stretches."""

    batches: Sums
    categories: Sums
    resamples: Sums


@dataclass(frozen=True)
class Stretch:
    """Consecutive batches that are summed at once: what a worker gets."""

    rows: BatchRows
    goal: np.ndarray
    """Of each row, its column of `times`."""
    times: np.ndarray
    """How often each goal counts in each resampling: [resamplings, goals]."""
    files: list[str]
    experts: Experts
    column: Column

    def reduce(self, run: RunDir) -> Reduction:
        """Sums of counts are exact integers, whatever the parts. Sums of weights follow the order of the parts, which
        the plan of `capture` fixes."""
        numbers = len(self.rows.batch_ids), len(self.rows.categories), len(self.times)
        kind = np.int64 if self.column == "counts" else np.float64
        sums = [np.zeros((groups * len(LABELS), 1 + len(self.experts)), kind) for groups in numbers]
        for name in self.files:
            self._add(sums, run.read_table(name, ["prompt_id", "tokens", self.column]))
        return Reduction(*(Sums(each.reshape(-1, len(LABELS), each.shape[1])) for each in sums))

    def _add(self, sums: list[np.ndarray], part: pa.Table) -> None:
        rows = self.rows
        found = rows.prompt_ids.find(part["prompt_id"])
        mine = np.flatnonzero(found >= 0)
        row_of = np.full(len(rows.prompt_ids), -1)
        row_of[found[mine]] = np.arange(len(mine))
        here = np.flatnonzero(row_of[rows.prompt] >= 0)
        if not len(here):
            return
        counts = matrix(part, self.column)
        exact = np.float32 if self.column == "counts" else np.float64
        values = np.empty((len(mine), 1 + len(self.experts)), exact)
        values[:, 0] = part["tokens"].to_numpy()[mine]
        # Where every layer has as many experts as the widest, rows are copied whole.
        values[:, 1:] = counts[mine if len(self.experts) == counts.shape[1] else np.ix_(mine, self.experts.flat)]
        label, row = rows.label[here], row_of[rows.prompt[here]]
        category = rows.category[here]
        named = category >= 0
        _sum(sums[0], values, row, label, rows.batch[here])
        _sum(sums[1], values, row[named], label[named], category[named])
        if len(self.times):
            self._resample(sums[2], values, row, label, self.goal[here])

    def _resample(
        self, sums: np.ndarray, values: np.ndarray, row: np.ndarray, label: np.ndarray, goal: np.ndarray
    ) -> None:
        """A product with the resamplings, in pieces so small that float32 holds its integers exactly."""
        step = max(1, 2**24 // max(1, int(values[:, 0].max()) * int(self.times.max())))
        for code in np.unique(label):
            mine = np.flatnonzero(label == code)
            for start in range(0, len(mine), step):
                piece = mine[start : start + step]
                times = np.take(self.times, goal[piece], axis=1).astype(np.float32)
                drawn = times @ values[row[piece]].astype(np.float32, copy=False)
                sums[code :: len(LABELS)] += drawn.astype(sums.dtype)


def _sum(sums: np.ndarray, values: np.ndarray, row: np.ndarray, label: np.ndarray, group: np.ndarray) -> None:
    """Adds rows to their cells, (group, label)."""
    from scipy.sparse import csr_array

    cell = group.astype(np.int64) * len(LABELS) + label
    if sums.dtype == np.int64:
        # Whole numbers are exact in any order, and so in a product, as long as none is beyond what the type holds.
        exact = np.float32 if values[row, 0].sum(dtype=np.float64) < 2**24 else np.float64
        cells, place = np.unique(cell, return_inverse=True)
        which = csr_array((np.ones(len(row), exact), (place, row)), shape=(len(cells), len(values)))
        sums[cells] += (which @ values.astype(exact, copy=False)).astype(np.int64)
        return
    order = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[order], return_index=True)
    if len(cells):
        sums[cells] += np.add.reduceat(values[row[order]], starts, axis=0, dtype=np.float64)


@dataclass(frozen=True)
class Reducer:
    """Sums the parts of `capture`, stretch after stretch."""

    run: RunDir
    files: Sequence[str]
    """The parts, in order."""
    coverage: Coverage
    batch_rows: BatchRows
    experts: Experts
    rounds: int = 0
    """Of the bootstrap; none draws nothing."""
    seed: int = 0

    def sums(self, column: Column, distribute_above: int = DISTRIBUTE_ABOVE) -> Iterator[Reduction]:
        """The sums of each stretch, in order; of few prompts here, of many on Ray: the same integers."""
        stretches = self.batch_rows.stretches()
        with tempfile.TemporaryDirectory() as folder:
            drawn = Resampling(Path(folder), self.batch_rows, stretches, self.rounds, self.seed)
            asked = (self._stretch(drawn, number, rows, column) for number, rows in enumerate(stretches))
            if len(self.batch_rows.prompt_ids) > distribute_above:
                yield from _on_ray(self.run, asked)
            else:
                yield from (stretch.reduce(self.run) for stretch in asked)

    def both(self, ranked: Column) -> Iterator[tuple[Reduction, Reduction]]:
        """Of each stretch the sums of counts, and those of what is ranked by."""
        if ranked == "counts":
            yield from ((sums, sums) for sums in self.sums("counts"))
        else:
            yield from zip(self.sums("counts"), self.sums(ranked), strict=True)

    def _stretch(self, drawn: Resampling, number: int, rows: np.ndarray, column: Column) -> Stretch:
        goals, times = drawn.of(number)
        order = np.argsort(goals)
        goal = order[np.searchsorted(goals, self.batch_rows.goal[rows], sorter=order)]
        files = [self.files[part] for part in np.unique(self.coverage.part[self.batch_rows.prompt[rows]])]
        return Stretch(self.batch_rows.cut(rows), goal, times, files, self.experts, column)


def _on_ray(run: RunDir, stretches: Iterator[Stretch]) -> Iterator[Reduction]:
    """No more of them at once than there are processors, since the sums of those that are done wait in memory."""
    import ray

    from moe_safety.jobs.cluster import connect, most
    from moe_safety.jobs.pool import release_replicas

    connect()
    # Tables are added up on processors, which replicas may hold.
    release_replicas()
    reduce: Any = ray.remote(num_cpus=1)(Stretch.reduce)
    asked: deque[Any] = deque()
    for stretch in stretches:
        if len(asked) >= most("CPU"):
            yield _got(asked.popleft())
        asked.append(reduce.remote(stretch, run))
        del stretch
    while asked:
        yield _got(asked.popleft())


def _got(asked: Any) -> Reduction:
    """An error of ours as it was raised; of Ray's the line that says why."""
    import ray

    try:
        found: Reduction = ray.get(asked)
    except ray.exceptions.RayError as error:
        if isinstance(why := getattr(error, "cause", None), MoeSafetyError):
            raise why from None
        raise RunError(f"Ray gave up: {last_line(error)}") from error
    return found


def check_coverage(run: RunDir, files: Sequence[str], batch_rows: BatchRows) -> Coverage:
    """Every prompt of the batches is counted once."""
    times = np.zeros(len(batch_rows.prompt_ids), np.uint8)
    part_of = np.zeros(len(times), np.int32)
    uncounted = 0
    for number, name in enumerate(files):
        part = run.read_table(name, ["prompt_id", "tokens"])
        found = batch_rows.prompt_ids.find(part["prompt_id"])
        np.add.at(times, found[found >= 0], 1)
        part_of[found[found >= 0]] = number
        uncounted += int((part["tokens"].to_numpy()[found >= 0] == 0).sum())
    for wrong, complaint in ((times == 0, "do not hold"), (times > 1, "hold more than once")):
        if wrong.any():
            prompt = batch_rows.prompt_ids[int(np.argmax(wrong))]
            raise InputError(f"the counts {complaint} prompt {prompt} of the batches", file=run.path("routing"))
    return Coverage(part_of, uncounted)
