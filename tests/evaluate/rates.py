"""Rates of answers to one prompt a goal, and answers to several."""

import numpy as np

from moe_safety.evaluate.statistics import rate


def plain(count, n, unparsed=0):
    """The first `count` of `n` count, and of the last `unparsed` nothing is known."""
    goals = [f"g{place}" for place in range(n)]
    counts = [place < count for place in range(n)]
    return rate(goals, counts, [place >= n - unparsed for place in range(n)])


def answered(chance, goals, forms, share, correlation):
    """How many of the `forms` of each goal are answered by a model that answers this share of all, whose answers to the
    forms of a goal are so much alike."""
    if correlation in (0, 1):
        own = np.full(goals, share) if correlation == 0 else chance.random(goals) < share
    else:
        strength = 1 / correlation - 1
        own = chance.beta(share * strength, (1 - share) * strength, goals)
    return own, chance.binomial(forms, own)
