"""How sure a difference is: intervals and q-values from goals drawn again, and agreement between halves of the goals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from moe_safety.identify.sums import Sums

_LEVEL = 0.95


@dataclass(frozen=True)
class Resampled:
    """One statistic of every expert in every bootstrap round: [rounds, experts]. A round that drew no counted token
    for a label that it needs has no value, and is left out."""

    rounds: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounds", self.rounds[~np.isnan(self.rounds).any(axis=1)])

    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """The 95 % percentile interval; NaN where no round has a value."""
        if not len(self.rounds):
            nowhere = np.full(self.rounds.shape[1], np.nan)
            return nowhere, nowhere
        low, high = np.quantile(self.rounds, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
        return low, high

    def q_values(self, estimate: np.ndarray, n_goals: int) -> np.ndarray:
        """Benjamini-Hochberg over all experts, from z = estimate / bootstrap standard error, two-sided.

        No p-value goes below 2^(1 - goals), the least that turning the signs of whole goals can reach: a difference
        that is the same in every goal (standard error 0) proves much if the goals are many, and nothing if there is one.
        """
        if len(self.rounds) < 2 or np.isnan(estimate).any():
            return np.full(len(estimate), np.nan)
        constant = np.ptp(self.rounds, axis=0) == 0
        error = np.where(constant, 0, self.rounds.std(axis=0, ddof=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(estimate == 0, 0, np.abs(estimate) / error)
        p = np.maximum(2 * stats.norm.sf(z), 2.0 ** (1 - n_goals))
        return stats.false_discovery_control(p)


def split_half_correlation(whole: np.ndarray, first: np.ndarray, second: np.ndarray) -> float | None:
    ...
