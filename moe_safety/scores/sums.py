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
