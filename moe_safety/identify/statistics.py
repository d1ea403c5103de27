"""How sure a difference is: errors and q-values from goals drawn again, and agreement between halves of them."""

from __future__ import annotations

import numpy as np
from scipy import stats

from moe_safety.identify.places import SAFE, UNSAFE
from moe_safety.identify.risk import difference
from moe_safety.identify.sums import Sums


def standard_error(rounds: np.ndarray, n_goals: int) -> np.ndarray:
    """Of each column of [rounds, experts]; NaN where fewer than two rounds have a value, or there is but one goal.

    Goals that are drawn from those at hand vary about these goals' own mean, and so a little too little.
    """
    rounds = _defined(rounds)
    if len(rounds) < 2 or n_goals < 2:
        return np.full(rounds.shape[1], np.nan)
    return rounds.std(axis=0, ddof=1) * np.sqrt(n_goals / (n_goals - 1))


def q_values(pooled: Sums, rounds: np.ndarray, n_goals: int) -> np.ndarray:
    """Benjamini-Hochberg over all experts, from Student's t of each risk difference, two-sided.

    The error is at least what tokens would leave to chance if each were routed by itself: an expert that by luck got
    no token of one label shows no spread there. Its degrees of freedom count the goals and, since the error itself was
    drawn, the rounds. No p-value goes below 2^(1 - goals), the least that turning the signs of whole goals can reach.
    """
    estimate, rounds = difference(pooled)[0], _defined(rounds)
    if len(rounds) < 2 or np.isnan(estimate).any():
        return np.full(len(estimate), np.nan)
    if n_goals < 2:
        return np.ones(len(estimate))
    error = np.maximum(standard_error(rounds, n_goals), _chance_error(pooled))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(estimate == 0, 0, np.abs(estimate) / error)
    freedom = 1 / (1 / (n_goals - 1) + 1 / (len(rounds) - 1))
    p = np.maximum(2 * stats.t.sf(t, freedom), 2.0 ** (1 - n_goals))
    return stats.false_discovery_control(p)


def split_half_correlation(whole: Sums, halves: Sums) -> float | None:
    """Spearman's correlation, over experts, of the differences in one half of the goals with those in the other:
    the mean over random halvings. None where no halving has differences on both sides that differ among experts."""
    pairs = zip(difference(halves), difference(Sums(whole.values - halves.values)), strict=True)
    found = [stats.spearmanr(one, other).statistic for one, other in pairs if np.ptp(one) > 0 and np.ptp(other) > 0]
    return float(np.mean(found)) if found else None


def _chance_error(pooled: Sums) -> np.ndarray:
    """The error of a difference between two draws of single tokens, at the rate of both labels together."""
    tokens, experts = pooled.tokens[0, [SAFE, UNSAFE]], pooled.experts[0, [SAFE, UNSAFE]]
    rate = experts.sum(axis=0) / tokens.sum()
    return np.sqrt(rate * (1 - rate) * (1 / tokens).sum())


def _defined(rounds: np.ndarray) -> np.ndarray:
    """Leaves out the rounds that drew no counted token of a label they need."""
    return rounds[~np.isnan(rounds).any(axis=1)]
