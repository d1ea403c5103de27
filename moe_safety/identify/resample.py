"""Resamplings of goals: how often each goal counts in each bootstrap round, and random halves of all goals."""

from __future__ import annotations

import numpy as np

from moe_safety.identify.places import Places

HALVES = 20
"""Random halvings whose correlations are averaged."""


def resampled_goals(places: Places, rounds: int, seed: int, halves: int = HALVES) -> np.ndarray:
    """uint8 [goals, rounds + halves]: the bootstrap rounds, then the first side of each halving.

    All prompts of a goal move together. Goals of attacks and of harmless requests are drawn each among their own, since
    a batch fixes how many it holds of either.
    """
    strata = [goals for goals in (np.flatnonzero(places.attacked), np.flatnonzero(~places.attacked)) if len(goals)]
    generator = np.random.default_rng([seed, *b"bootstrap"])
    times = np.zeros((places.n_goals, rounds + halves), np.uint8)
    for goals in strata:
        size = len(goals)
        for column in range(rounds):
            times[goals, column] = np.bincount(generator.integers(size, size=size), minlength=size)
        for column in range(rounds, rounds + halves):
            times[generator.permutation(goals)[: size // 2], column] = 1
    return times
