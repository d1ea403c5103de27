"""How sure a difference is: intervals and q-values from goals drawn again, and agreement between halves of them."""

from __future__ import annotations

import numpy as np
from scipy import stats

from moe_safety.identify.risk import difference
from moe_safety.identify.sums import Sums

_LEVEL = 0.95


def interval(rounds: np.ndarray, n_goals: int) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % percentile interval of each column of [rounds, experts]; NaN where no round has a value, or there is
    but one goal. It is widened for few goals as Student's t is, since plain percentiles then cover too little."""
    rounds = _defined(rounds)
    if not len(rounds) or n_goals < 2:
        nowhere = np.full(rounds.shape[1], np.nan)
        return nowhere, nowhere
    student = stats.t.ppf((1 - _LEVEL) / 2, n_goals - 1)
    tail = stats.norm.cdf(student * np.sqrt(n_goals / (n_goals - 1)))
    low, high = np.quantile(rounds, [tail, 1 - tail], axis=0)
    return low, high


def q_values(estimate: np.ndarray, rounds: np.ndarray, n_goals: int) -> np.ndarray:
    """Benjamini-Hochberg over all experts, from z = estimate / bootstrap standard error, two-sided.

    No p-value goes below 2^(1 - goals), the least that turning the signs of whole goals can reach: a difference that
    is the same in every goal (standard error 0) proves much if the goals are many, and nothing if there is one.
    """
    rounds = _defined(rounds)
    if len(rounds) < 2 or np.isnan(estimate).any():
        return np.full(len(estimate), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(estimate == 0, 0, np.abs(estimate) / rounds.std(axis=0, ddof=1))
    p = np.maximum(2 * stats.norm.sf(z), 2.0 ** (1 - n_goals))
    return stats.false_discovery_control(p)


def split_half_correlation(whole: Sums, halves: Sums) -> float | None:
    """Spearman's correlation, over experts, of the differences in one half of the goals with those in the other:
    the mean over random halvings. None where no halving has differences on both sides that differ among experts."""
    pairs = zip(difference(halves), difference(Sums(whole.values - halves.values)), strict=True)
    found = [stats.spearmanr(one, other).statistic for one, other in pairs if np.ptp(one) > 0 and np.ptp(other) > 0]
    return float(np.mean(found)) if found else None


def _defined(rounds: np.ndarray) -> np.ndarray:
    """Leaves out the rounds that drew no counted token of a label they need."""
    return rounds[~np.isnan(rounds).any(axis=1)]
