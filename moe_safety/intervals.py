"""How far a mean over goals may be from the truth: one interval for every score."""

from __future__ import annotations

import numpy as np

LEVEL = 0.95


def interval(estimate: np.ndarray, error: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Student's 95 % interval of each estimate, from its standard error.

    `n` counts the goals of the smallest group that is compared: a difference is no surer than its less sure side. One
    goal tells nothing of another, so that with one the interval is undefined (NaN).
    """
    from scipy import stats

    if n < 2:
        nowhere = np.full_like(estimate, np.nan)
        return nowhere, nowhere
    reach = stats.t.ppf((1 + LEVEL) / 2, n - 1) * error
    return estimate - reach, estimate + reach
