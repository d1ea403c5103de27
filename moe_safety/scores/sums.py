"""Sums of routed tokens by group and label: what the formulas of routing are computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LABELS = ("safe", "unsafe", "benign", "control")
SAFE, UNSAFE, BENIGN, CONTROL = range(4)


@dataclass(frozen=True)
class Sums:
    """[groups, labels, 1 + experts]: the counted tokens first, then what each expert got of them."""

    values: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        """[groups, labels]: the counted tokens."""
        return self.values[..., 0]

    @property
    def experts(self) -> np.ndarray:
        """[groups, labels, experts]: what each expert got of them."""
        return self.values[..., 1:]

    def rate(self, label: int) -> np.ndarray:
        """[groups, experts]: what each expert got of a label's tokens; NaN where none was counted."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.experts[:, label] / self.tokens[:, label, None]

    def pooled(self) -> Sums:
        """All groups as one."""
        return Sums(self.values.sum(axis=0, keepdims=True))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, groups: slice) -> Sums:
        return Sums(self.values[groups])


class Moments:
    """The mean and spread of rows that come in pieces; rows with NaN in them are left out."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: np.ndarray = np.zeros(())
        self._squares: np.ndarray = np.zeros(())
        self._width = 0

    def add(self, rows: np.ndarray) -> Moments:
        """Takes these [rows, columns] in."""
        self._width = rows.shape[1]
        rows = rows[~np.isnan(rows).any(axis=1)]
        if len(rows):
            mean = rows.mean(axis=0)
            squares = ((rows - mean) ** 2).sum(axis=0)
            both, apart = self.count + len(rows), mean - self._mean
            if self.count:
                squares += self._squares + apart**2 * (self.count * len(rows) / both)
                mean = self._mean + apart * (len(rows) / both)
            self.count, self._mean, self._squares = both, mean, squares
        return self

    @property
    def mean(self) -> np.ndarray:
        """[1, columns]; NaN without a row."""
        return self._mean[None] if self.count else np.full((1, self._width), np.nan)

    @property
    def std(self) -> np.ndarray:
        """[1, columns]; NaN with fewer than two rows."""
        if self.count < 2:
            return np.full((1, self._width), np.nan)
        return np.sqrt(self._squares / (self.count - 1))[None]
