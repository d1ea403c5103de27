"""Goals drawn again: how often each counts in each resampling. A kilobyte a goal, so it is drawn into files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from moe_safety.identify.batch_rows import BatchRows

HALVES = 20
"""Random halvings whose correlations are averaged."""


class Resampling:
    """The bootstrap rounds, then the first side of each halving; a file for each stretch of batches.

    All prompts of a goal move together. Goals of attacks and of harmless requests are drawn each among their own, since
    a batch fixes how many it holds of either.
    """

    def __init__(
        self, folder: Path, batch_rows: BatchRows, stretches: Sequence[np.ndarray], rounds: int, seed: int
    ) -> None:
        self._folder, self.size = folder, rounds + HALVES if rounds else 0
        attacked = batch_rows.attacked
        goals = [np.unique(batch_rows.goal[rows]) for rows in stretches]
        self._strata = [[mine[attacked[mine] == side] for mine in goals] for side in (True, False)]
        generator = np.random.default_rng([seed, *b"bootstrap"])
        with ExitStack() as stack:
            files = [stack.enter_context(open(self._file(number), "wb")) for number in range(len(goals))]
            for side, mine in zip((True, False), self._strata, strict=True):
                for drawn in _draws(generator, np.flatnonzero(attacked == side), len(attacked), rounds):
                    for file, some in zip(files, mine, strict=True):
                        file.write(drawn[some].tobytes())

    def _file(self, stretch: int) -> Path:
        return self._folder / f"{stretch}.times"

    def of(self, stretch: int) -> tuple[np.ndarray, np.ndarray]:
        """The goals of a stretch, and how often each counts: uint8 [resamplings, goals]."""
        strata = [mine[stretch] for mine in self._strata]
        drawn = np.fromfile(self._file(stretch), np.uint8)
        sides = np.split(drawn, [self.size * len(strata[0])])
        times = [side.reshape(self.size, len(mine)) for side, mine in zip(sides, strata, strict=True)]
        return np.concatenate(strata), np.hstack(times)


def _draws(generator: np.random.Generator, goals: np.ndarray, total: int, rounds: int) -> Iterator[np.ndarray]:
    """How often each of `total` goals counts when these are drawn, one resampling after the other."""
    if not len(goals) or not rounds:
        return
    times, size = np.zeros(total, np.uint8), len(goals)
    for _ in range(rounds):
        times[goals] = np.bincount(generator.integers(size, size=size), minlength=size)
        yield times
    for _ in range(HALVES):
        times[:] = 0
        times[generator.permutation(goals)[: size // 2]] = 1
        yield times
