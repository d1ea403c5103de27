"""The rule that turns scores into chosen experts: the best first, never the first found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_AT_ONCE = 1024
"""Groups that are sorted at once."""


@dataclass(frozen=True)
class Rule:
    """Strictly above the threshold, where there is one; then the best `top_k`, or with `top_p` the fewest best that
    hold this share of all positive scores. Ties go to the first column, which is the lower (layer, expert)."""

    threshold: float | None
    top_k: int
    top_p: float | None = None

    def choose(self, scores: np.ndarray) -> list[np.ndarray]:
        """The chosen columns of each row of `scores` [groups, experts], best first. NaN is never chosen."""
        chosen: list[np.ndarray] = []
        for start in range(0, len(scores), _AT_ONCE):
            some = scores[start : start + _AT_ONCE]
            order = np.argsort(-some, axis=1, kind="stable")
            sizes = self._sizes(np.take_along_axis(some, order, axis=1))
            chosen += [columns[:size] for columns, size in zip(order, sizes, strict=True)]
        return chosen

    def _sizes(self, ranked: np.ndarray) -> np.ndarray:
        lowest = -np.inf if self.threshold is None else self.threshold
        passing = (ranked > lowest).sum(axis=1)
        return np.minimum(passing, self.top_k if self.top_p is None else self._share_sizes(ranked))

    def _share_sizes(self, ranked: np.ndarray) -> np.ndarray:
        held = np.cumsum(np.where(ranked > 0, ranked, 0), axis=1)
        wanted = self.top_p * held[:, -1:]
        # Without a positive score there is no share to hold, and nothing is chosen.
        return np.where(held[:, -1] > 0, (held < wanted).sum(axis=1) + 1, 0)
