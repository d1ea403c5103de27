import numpy as np
import pytest
from scipy import stats

from moe_safety.identify import Experts
from moe_safety.identify.batch_rows import BatchRows, PromptIds
from moe_safety.identify.reduce import Stretch
from moe_safety.identify.resampling import HALVES
from moe_safety.identify.statistics import q_values, split_half_correlation, standard_error
from moe_safety.intervals import interval
from moe_safety.routing.table import routing_table
from moe_safety.scores import difference
from moe_safety.scores.routing.risk_diff_control import control_adjusted
from tests.identify.synthetic import make_layout, resampled_goals


def sums_of(label, goal, tokens, counts, rounds=200, seed=0):
    """The sums of one batch, of bootstrap rounds and of halves. `counts` is [prompts, experts]."""
    label, goal, n = np.asarray(label), np.asarray(goal), len(label)
    ids = PromptIds(np.arange(n).astype("S8"))
    nothing = np.full(n, -1)
    places = BatchRows(np.arange(n), label, np.zeros(n, int), goal, nothing, ids, np.zeros(1, int), ())
    counts = np.asarray(counts)[:, None]
    layout = make_layout((counts.shape[2],))
    table = routing_table(layout, [id_.decode() for id_ in ids.ids], np.asarray(tokens), counts, counts)
    times = resampled_goals(places, rounds, seed).T
    found = Stretch(places, goal, times, ["one"], Experts.of_layout(layout), "counts").reduce(OnePart(table))
    return found.batches, found.resamples[:rounds], found.resamples[rounds:]


class OnePart:
    """A run directory that holds one table, whatever it is called."""

    def __init__(self, table):
        self.table = table

    def read_table(self, name, columns):
        return self.table.select(columns)


def interval_of(whole, rounds, goals):
    return interval(difference(whole)[0], standard_error(difference(rounds), goals), goals)


def test_two_goals_by_hand():
    # Differences: the first goal alone 9/10 - 1/10, the second alone 2/20 - 4/40, both 11/30 - 5/50.
    label, goal = [0, 1, 0, 1], [0, 0, 1, 1]
    whole, rounds, _ = sums_of(label, goal, [10, 10, 40, 20], [[1], [9], [4], [2]])
    found = difference(rounds)[:, 0]
    possible = {0.8: 0.25, 0.0: 0.25, 11 / 30 - 0.1: 0.5}
    for value, share in possible.items():
        assert np.isclose(found, value).mean() == pytest.approx(share, abs=0.1)
    estimate = 11 / 30 - 0.1
    assert difference(whole)[0, 0] == pytest.approx(estimate)
    # Student's t of one degree of freedom reaches 12.7 errors, and an error from two goals is the root of 2 larger.
    low, high = interval_of(whole, rounds, 2)
    reach = 12.7062 * found.std(ddof=1) * np.sqrt(2)
    assert (low[0], high[0]) == (pytest.approx(estimate - reach, rel=1e-4), pytest.approx(estimate + reach, rel=1e-4))


def test_rounds_draw_as_many_goals_as_there_are_and_halves_half():
    n = 60
    label, goal = np.tile([0, 1, 2, 3], n // 4), np.arange(n) // 2
    places = BatchRows(
        np.arange(n), label, np.zeros(n, int), goal, label, PromptIds(np.arange(n).astype("S8")), np.zeros(1, int), ()
    )
    times = resampled_goals(places, 40, seed=3)
    for stratum, size in ((places.attacked, 15), (~places.attacked, 15)):
        assert (times[stratum, :40].sum(axis=0) == size).all()
        assert (times[stratum, 40:].sum(axis=0) == size // 2).all()
    assert times.shape == (30, 40 + HALVES)
    assert times[:, 40:].max() == 1
    assert np.array_equal(times, resampled_goals(places, 40, seed=3))
    assert not np.array_equal(times, resampled_goals(places, 40, seed=4))


def simulated(generator, goals, experts, truth, spread=0.15):
    """Each goal has its own rates about the true ones, for every token of its two prompts."""
    label, goal = np.tile([0, 1], goals), np.repeat(np.arange(goals), 2)
    tokens = generator.integers(20, 80, 2 * goals)
    middle = np.where(label[:, None] == 1, 0.4 + truth, 0.4)
    rates = np.clip(middle + generator.uniform(-spread, spread, (2 * goals, experts)), 0, 1)
    return label, goal, tokens, generator.binomial(tokens[:, None], rates)


@pytest.mark.parametrize("goals", [2, 3, 5, 15, 60])
def test_intervals_cover_the_truth(goals):
    generator = np.random.default_rng(0)
    covered = []
    for trial in range(60):
        whole, rounds, _ = sums_of(*simulated(generator, goals, 40, truth=0.1), rounds=500, seed=trial)
        low, high = interval_of(whole, rounds, goals)
        covered.append((low <= 0.1) & (high >= 0.1))
    assert 0.93 < np.mean(covered) < 0.98


def test_more_prompts_of_the_same_goals_do_not_shrink_the_interval():
    label, goal, tokens, counts = simulated(np.random.default_rng(1), 30, 10, truth=0.1)
    copies = 5
    more = [np.repeat(values, copies, axis=0) for values in (label, goal, tokens, counts)]

    def width(*data):
        low, high = interval_of(*sums_of(*data, rounds=400)[:2], 30)
        return (high - low).mean()

    alone = width(label, goal, tokens, counts)
    assert width(*more) == pytest.approx(alone)
    # Were each copy a goal of its own, the interval would shrink by the root of their number.
    strangers = more[1] * copies + np.tile(np.arange(copies), len(label))
    assert width(more[0], strangers, *more[2:]) == pytest.approx(alone / np.sqrt(copies), rel=0.15)


def test_q_values_are_benjamini_hochberg_of_student_s_t():
    label, goal, tokens, counts = simulated(np.random.default_rng(2), 12, 40, truth=np.linspace(0, 0.4, 40))
    whole, rounds, _ = sums_of(label, goal, tokens, counts, rounds=500)
    n, rate = [tokens[label == side].sum() for side in (0, 1)], counts.sum(axis=0) / tokens.sum()
    error = difference(rounds).std(axis=0, ddof=1) * np.sqrt(12 / 11)
    error = np.maximum(error, np.sqrt(rate * (1 - rate) * (1 / n[0] + 1 / n[1])))
    t = np.abs(difference(whole)[0]) / error
    p = np.maximum(2 * stats.t.sf(t, 1 / (1 / 11 + 1 / 499)), 2.0**-11)
    ranked = np.sort(p) * 40 / np.arange(1, 41)
    by_hand = np.minimum.accumulate(ranked[::-1])[::-1]
    found = q_values(whole, difference(rounds), 12)
    assert np.allclose(found, by_hand[np.argsort(np.argsort(p))])
    assert found[-1] < 0.01 < found[0]


def test_thousands_of_experts_reach_small_q_values():
    label, goal, tokens, counts = simulated(np.random.default_rng(3), 100, 6144, truth=0)
    counts[label == 1, 0] = tokens[label == 1]
    whole, rounds, _ = sums_of(label, goal, tokens, counts, rounds=200)
    q = q_values(whole, difference(rounds), n_goals=100)
    assert q[0] < 1e-6
    assert (q[1:] < 0.05).mean() < 0.001


def test_without_spread_the_number_of_goals_decides():
    def q(goals):
        label, goal = np.tile([0, 1], goals), np.repeat(np.arange(goals), 2)
        counts = np.where(label[:, None] == 1, [10, 3, 0], [0, 3, 0])
        whole, rounds, _ = sums_of(label, goal, np.full(2 * goals, 10), counts)
        return q_values(whole, difference(rounds), goals)

    assert q(1).tolist() == [1, 1, 1]
    assert q(40)[0] < 1e-10
    assert q(40)[1:].tolist() == [1, 1]


def test_one_goal_has_no_interval():
    whole, rounds, _ = sums_of([0, 1], [0, 0], [10, 10], [[1], [9]])
    assert np.isnan(interval_of(whole, rounds, 1)).all()


def test_a_label_without_tokens_gives_no_statistics():
    whole, rounds, halves = sums_of([1, 1, 0], [0, 1, 0], [10, 20, 0], [[3, 4], [5, 6], [0, 0]])
    assert np.isnan(interval_of(whole, rounds, 2)).all()
    assert np.isnan(q_values(whole, difference(rounds), 2)).all()
    assert split_half_correlation(whole, halves) is None


def test_rounds_that_miss_a_label_are_left_out():
    # Only the first of five goals has safe tokens; a third of the rounds do not draw it.
    label, goal = [0, 1, 1, 1, 1, 1], [0, 0, 1, 2, 3, 4]
    whole, rounds, _ = sums_of(label, goal, [10] * 6, [[2], [4], [5], [6], [7], [8]])
    assert np.isnan(difference(rounds)).any()
    assert np.isfinite(interval_of(whole, rounds, 5)).all()


def test_split_halves_agree_on_structure_and_not_on_noise():
    generator = np.random.default_rng(4)
    structured, _, halves = sums_of(*simulated(generator, 80, 60, truth=np.linspace(-0.3, 0.3, 60)))
    assert split_half_correlation(structured, halves) > 0.9
    found = []
    for _ in range(5):
        noise, _, halves = sums_of(*simulated(generator, 80, 60, truth=0))
        found.append(split_half_correlation(noise, halves))
    assert abs(np.mean(found)) < 0.15


def test_the_control_adjusted_difference_by_hand():
    whole, rounds, _ = sums_of([0, 1, 2, 3], [0, 0, 1, 1], [10, 10, 10, 10], [[1], [7], [2], [4]])
    assert control_adjusted(whole)[0, 0] == pytest.approx((0.7 - 0.1) - (0.4 - 0.2))
    assert np.allclose(control_adjusted(rounds), 0.4)
