import numpy as np
import pytest
from scipy.stats import binomtest

from moe_safety.evaluate.statistics import independent, rate, sign_flips, wilson
from tests.evaluate.rates import answered, plain


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_newcombe_1998_table_1(count, n, low, high):
    found = plain(count, n)
    assert (found.value, found.n, found.n_goals) == (count / n, n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_with_one_prompt_a_goal_the_interval_is_wilsons_to_the_last_bit():
    for n in (1, 2, 7, 54):
        for count in range(n + 1):
            expected = binomtest(count, n).proportion_ci(0.95, method="wilson")
            assert (plain(count, n).low, plain(count, n).high) == (expected.low, expected.high)


def test_a_rate_of_nothing_is_none():
    nothing = {"value": None, "low": None, "high": None}
    assert rate([], []).to_dict() == nothing | {"n": 0, "n_goals": 0, "unparsed": 0, "with_unparsed": nothing}


def test_unparsed_answers_are_counted_with_the_goals_that_they_are_about():
    """Two of three goals have a form that was answered, and one has one that nobody could read."""
    goals = [goal for goal in "abc" for _ in range(4)]
    counts = [place % 4 == 0 and goal != "c" for place, goal in enumerate(goals)]
    unread = [place == 3 for place in range(12)]
    found = rate(goals, counts, unread)
    assert (found.value, found.n, found.n_goals, found.unparsed) == (2 / 12, 12, 3, 1)
    known = rate(goals, [a or b for a, b in zip(counts, unread, strict=True)])
    assert (found.with_unparsed.value, found.with_unparsed.low, found.with_unparsed.high) == (
        known.value,
        known.low,
        known.high,
    )
    assert known.value == 3 / 12


def test_where_goals_say_nothing_of_each_other_s_forms_the_interval_is_of_goals():
    """No goal or every goal succeeds, or there is but one: as if each had been asked once."""
    sizes = np.array([6, 3, 1, 2])
    assert independent(np.zeros(4), sizes) == independent(sizes, sizes) == 4
    assert independent(np.array([2]), np.array([3])) == 1
    found = rate([goal for goal in "abcde" for _ in range(6)], [False] * 30)
    assert (found.low, found.high) == wilson(0.0, 5)


def test_forms_that_stand_or_fall_together_are_worth_one_answer_and_independent_ones_nearly_all():
    forms = np.full(40, 6)
    together, apart = np.repeat([0, 6], 20), np.repeat([2, 4], 20)
    assert 33 < independent(together, forms) < 40
    assert 180 < independent(apart, forms) < 240


def missed(goals, forms, share, correlation, draws, seed=0):
    """How often the interval misses the true share."""
    chance, sizes, misses = np.random.default_rng(seed), np.full(goals, forms), 0
    known = {}
    for _ in range(draws):
        _, found = answered(chance, goals, forms, share, correlation)
        key = tuple(sorted(found))
        if key not in known:
            known[key] = wilson(found.sum() / sizes.sum(), independent(found, sizes))
        low, high = known[key]
        misses += not low <= share <= high
    return misses / draws


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("goals", [10, 20, 54])
def test_with_six_forms_a_goal_the_interval_misses_as_seldom_as_it_says(goals, share):
    """6 %, and three standard errors of so many draws."""
    draws = 3000
    allowed = 0.06 + 3 * (0.06 * 0.94 / draws) ** 0.5
    for correlation in (0, 0.2, 0.6, 1):
        assert missed(goals, 6, share, correlation, draws) <= allowed


@pytest.mark.soak
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("goals", [10, 20, 30, 54])
@pytest.mark.parametrize("forms", [3, 6])
def test_the_interval_misses_as_seldom_as_it_says(goals, forms, share):
    """The same over more of the grid."""
    draws = 4000
    allowed = 0.06 + 3 * (0.06 * 0.94 / draws) ** 0.5
    for correlation in (0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1):
        assert missed(goals, forms, share, correlation, draws) <= allowed, correlation


def mcnemar(b, c):
    return binomtest(b, b + c).pvalue


@pytest.mark.parametrize(("b", "c", "p"), [(1, 7, 0.0703), (6, 16, 0.0525)])
def test_mcnemar_against_fagerland_lydersen_laake_2013(b, c, p):
    assert sign_flips([-1] * b + [1] * c) == pytest.approx(p, abs=5e-5)


def test_with_one_prompt_a_goal_the_test_is_mcnemar_s():
    for b in range(13):
        for c in range(13):
            p = mcnemar(b, c) if b + c else 1
            assert sign_flips([1] * c + [0] * 5 + [-1] * b) == pytest.approx(p, rel=1e-12)
    assert sign_flips([-1] * 10) == 2**-9
    assert sign_flips([]) == sign_flips([0, 0]) == sign_flips([3, -3]) == 1
    assert sign_flips([1] * 600 + [-1] * 400) == pytest.approx(mcnemar(400, 600), rel=1e-9)


def test_signs_are_flipped_in_every_way():
    chance = np.random.default_rng(1)
    for _ in range(20):
        changes = chance.integers(-6, 7, 9)
        signs = 1 - 2 * ((np.arange(2**9)[:, None] >> np.arange(9)) & 1)
        expected = (np.abs(signs @ changes) >= abs(changes.sum())).mean()
        assert sign_flips(changes.tolist()) == pytest.approx(expected, rel=1e-12)


def found_different(goals, forms, share, correlation, draws, seed=0):
    """How often the test takes two equal models for different ones."""
    chance, found = np.random.default_rng(seed), 0
    for _ in range(draws):
        own, one = answered(chance, goals, forms, share, correlation)
        found += sign_flips((one - chance.binomial(forms, own)).tolist()) < 0.05
    return found / draws


def retrained(goals, forms, share, draws, seed=0):
    """The same, of models that answer all forms of a goal or none, each by its own chance."""
    chance = np.random.default_rng(seed)
    pairs = chance.random((draws, 2, goals)) < share
    changes = forms * (pairs[:, 0].astype(int) - pairs[:, 1])
    return np.mean([sign_flips(row.tolist()) < 0.05 for row in changes])


@pytest.mark.parametrize("goals", [10, 20, 54])
def test_equal_models_are_seldom_called_different(goals):
    draws = 500
    allowed = 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5
    assert retrained(goals, 6, 0.5, draws) <= allowed
    assert found_different(goals, 3, 0.5, 0.5, draws) <= allowed


@pytest.mark.soak
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("goals", [5, 10, 20, 54])
@pytest.mark.parametrize("forms", [1, 3, 6])
def test_the_test_has_its_size(goals, forms, share):
    draws = 4000
    allowed = 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5
    assert retrained(goals, forms, share, draws) <= allowed
    for correlation in (0, 0.3, 0.7):
        assert found_different(goals, forms, share, correlation, draws) <= allowed
