"""What q-values find where there is nothing to find, and where there is something: simulated goals, 1,024 experts."""

import numpy as np
import pytest

from moe_safety.identify.batch_rows import BatchRows, PromptIds
from moe_safety.identify.statistics import q_values
from moe_safety.scores import Sums, difference
from tests.identify.synthetic import resampled_goals

EXPERTS, ROUNDS, FOUND = 1024, 200, 0.05
GOALS = (16, 24, 32, 64)
ANY_LENGTH, SHORT, LONG = (20, 129), (10, 31), (100, 129)
"""Counted tokens of an answer: a refusal is often shorter than what an attack gets."""
WORLDS = {
    "common": (np.full(EXPERTS, 0.125), ANY_LENGTH, ANY_LENGTH),
    "rare": (np.full(EXPERTS, 0.001), ANY_LENGTH, ANY_LENGTH),
    "uneven": (np.geomspace(0.001, 0.5, EXPERTS), SHORT, LONG),
}
"""Activation rates of the experts, and lengths of the answers to safe and to unsafe prompts."""


def q_of(world, goals, seed, planted=0.0):
    """The q-values of experts whose first 16 have this much higher rates on unsafe prompts. Each goal's two forms have
    rates of their own about those, which all their tokens share."""
    rates, safe, unsafe = WORLDS[world]
    chance = np.random.default_rng([seed, goals, *world.encode()])
    values = np.zeros((goals, 4, 1 + EXPERTS), np.float32)
    lifted = rates + planted * (np.arange(EXPERTS) < 16)
    for label, (lengths, own) in enumerate(((safe, rates), (unsafe, lifted))):
        tokens = chance.integers(*lengths, goals)
        about = own * chance.gamma(10, 1 / 10, (goals, EXPERTS))
        values[:, label, 0] = tokens
        values[:, label, 1:] = chance.binomial(tokens[:, None], np.minimum(about, 1))
    times = resampled_goals(places_of(goals), ROUNDS, seed)[:, :ROUNDS].T.astype(np.float32)
    rounds = np.tensordot(times, values[:, :2], axes=1)
    rounds = Sums(np.pad(rounds, ((0, 0), (0, 2), (0, 0))))
    return q_values(Sums(values.sum(axis=0, keepdims=True, dtype=float)), difference(rounds), goals)


def places_of(goals):
    """A safe and an unsafe prompt of each goal."""
    prompt, label, goal = np.arange(2 * goals), np.tile([0, 1], goals), np.repeat(np.arange(goals), 2)
    nothing = np.zeros(2 * goals, int)
    return BatchRows(prompt, label, nothing, goal, nothing - 1, PromptIds(prompt.astype("S8")), np.zeros(1, int), ())


def share_of_false_alarms(world, goals, simulations):
    return np.mean([(q_of(world, goals, seed) < FOUND).any() for seed in range(simulations)])


@pytest.mark.parametrize("goals", GOALS)
@pytest.mark.parametrize("world", WORLDS)
def test_where_there_is_nothing_nothing_is_found(world, goals):
    assert share_of_false_alarms(world, goals, 100) <= 0.08


@pytest.mark.soak
@pytest.mark.parametrize("goals", GOALS)
@pytest.mark.parametrize("world", WORLDS)
def test_where_there_is_nothing_nothing_is_found_in_many_simulations(world, goals):
    assert share_of_false_alarms(world, goals, 500) <= 0.08


@pytest.mark.parametrize(
    ("world", "goals", "planted", "at_least"),
    [("common", 16, 0.2, 0.4), ("common", 32, 0.1, 0.5), ("common", 64, 0.1, 0.95), ("rare", 16, 0.05, 0.9)],
)
def test_what_is_there_is_found(world, goals, planted, at_least):
    found = np.array([q_of(world, goals, seed, planted) < FOUND for seed in range(10)])
    assert found[:, :16].mean() >= at_least
    assert found[:, 16:].sum() <= 0.1 * found.sum()
