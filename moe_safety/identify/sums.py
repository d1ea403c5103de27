"""Sums of routed tokens by group and label, and how one part of the counts adds to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from moe_safety.identify.experts import Experts
from moe_safety.identify.places import LABELS, Places
from moe_safety.routing.table import matrix

Column = Literal["counts", "weights"]
"""What of the routing is summed."""
Partial = tuple[np.ndarray, np.ndarray]
"""Cells, each at most once, and what to add to them."""


@dataclass(frozen=True)
class Sums:
    """[groups, labels, 1 + experts]: the counted tokens first, then what each expert got of them."""

    values: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        return self.values[..., 0]

    @property
    def experts(self) -> np.ndarray:
        return self.values[..., 1:]

    def pooled(self) -> Sums:
        """All groups as one."""
        return Sums(self.values.sum(axis=0, keepdims=True))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, groups: slice) -> Sums:
        return Sums(self.values[groups])


@dataclass(frozen=True)
class Reducer:
    """Sums one part. A cell is a (group, label); the groups are the batches, then the categories, then the resamplings.

    Sums of counts are exact integers, whatever the parts. Sums of weights follow the order of the parts, which the
    plan of `capture` fixes.
    """

    places: Places
    experts: Experts
    times: np.ndarray
    """How often each goal counts in each resampling: [goals, resamplings]."""
    column: Column = "counts"

    @property
    def groups(self) -> tuple[int, int, int]:
        return len(self.places.batch_ids), len(self.places.categories), self.times.shape[1]

    @property
    def reads(self) -> list[str]:
        """The columns of a part that it needs."""
        return ["prompt_id", "tokens", self.column]

    @property
    def dtype(self) -> type[np.generic]:
        return np.int64 if self.column == "counts" else np.float64

    def zeros(self) -> np.ndarray:
        """All cells, before any part."""
        return np.zeros((sum(self.groups) * len(LABELS), 1 + len(self.experts)), self.dtype)

    def __call__(self, part: pa.Table) -> Partial:
        places = self.places
        values = np.column_stack([part["tokens"].to_numpy(), matrix(part, self.column)[:, self.experts.flat]])
        row_of = np.full(len(places.prompt_ids), -1)
        known = places.prompt_ids.get_indexer(part["prompt_id"].to_pandas())
        row_of[known[known >= 0]] = np.flatnonzero(known >= 0)
        here = np.flatnonzero(row_of[places.prompt] >= 0)
        rows, label = row_of[places.prompt[here]], places.label[here]
        n_batches, n_categories, _ = self.groups
        category = places.category[here]
        partials = [
            self._sum(values, rows, label, places.batch[here]),
            self._sum(values, rows[category >= 0], label[category >= 0], n_batches + category[category >= 0]),
            *self._resample(values, rows, label, places.goal[here], n_batches + n_categories),
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
