"""Against values worked out by hand, or from every order one by one."""

from itertools import permutations

import numpy as np
import pytest

from benchmarks.planted.measures import (
    auroc,
    carried,
    chance_curve,
    oracle_curve,
    recall,
    reset_curve,
    towards_oracle,
)

GUILTY = np.array([False, True, False, True, False])
SUCCESS = np.array([1.0, 0.9, 0.4, 0.0])
"""Nothing put back, the first guilty expert, the second, both."""


def test_auroc_counts_pairs_and_ties_by_half():
    # Expert 1 stands above 0, 2 and 4; expert 3 ties with 0 and stands above 4 alone.
    scores = np.array([2.0, 9.0, 3.0, 2.0, 1.0])
    assert auroc(scores, GUILTY) == pytest.approx((3 + 1.5) / 6)
    assert auroc(scores, GUILTY, np.array([0.0, 1.0])) == pytest.approx(1.5 / 3)
    assert auroc(-scores, GUILTY) == pytest.approx(1 - 4.5 / 6)
    assert auroc(np.ones(5), GUILTY) == 0.5


def test_recall_takes_as_many_as_are_guilty():
    assert recall(np.array([0.0, 9.0, 8.0, 7.0, 6.0]), GUILTY) == 0.5
    assert recall(np.array([0.0, 9.0, 1.0, 8.0, 2.0]), GUILTY) == 1.0
    # Ties go to the first: 0 and 1.
    assert recall(np.ones(5), GUILTY) == 0.5


def test_a_reset_curve_falls_where_a_guilty_expert_is_put_back():
    curve = reset_curve(np.array([5.0, 1.0, 4.0, 3.0, 2.0]), GUILTY, SUCCESS)
    assert curve.tolist() == [1.0, 1.0, 1.0, 0.4, 0.4, 0.0]


def every_curve(success):
    """The curves of all orders of five experts."""
    return np.array([reset_curve(np.array(order, float), GUILTY, success) for order in permutations(range(5))])


@pytest.mark.parametrize("success", [SUCCESS, np.array([1.0, 0.2, 0.5, 0.3])])
def test_oracle_and_chance_are_the_best_and_the_mean_of_all_orders(success):
    curves = every_curve(success)
    oracle, chance = oracle_curve(5, success), chance_curve(5, success)
    assert oracle.mean() == pytest.approx(curves.mean(axis=1).min())
    np.testing.assert_allclose(chance, curves.mean(axis=0))
    assert towards_oracle(oracle, oracle, chance) == 1
    assert towards_oracle(chance, oracle, chance) == 0
    assert towards_oracle((oracle + chance) / 2, oracle, chance) == pytest.approx(0.5)


def test_what_experts_carry_adds_up_to_the_fall():
    # The first takes 0.1 alone and 0.4 after the second; the second 0.6 alone and 0.9 after the first.
    np.testing.assert_allclose(carried(SUCCESS), [(0.1 + 0.4) / 2, (0.6 + 0.9) / 2])
    eight = np.random.default_rng(0).random(256)
    assert carried(eight).sum() == pytest.approx(eight[0] - eight[-1])
