"""Halves of a selection sweep share no goal, however many batches a goal stands in."""

import numpy as np
import pytest

from moe_safety.identify.batch_rows import read_batch_rows
from moe_safety.identify.inputs import read_inputs
from moe_safety.identify.statistics import calculate_risk_diff_per_batch
from moe_safety.rundir import RunDir
from moe_safety.scores import SCORES, RoutingScore
from moe_safety.tune.selection.ground import _batches_of_halves, half_of, routing_views
from tests.identify.synthetic import Invented, make_layout

LAYOUT = make_layout((4, 4))
OF_ROUTING = [score for score in SCORES if isinstance(score, RoutingScore)]
GOALS_OF_BATCHES = [(0, 1), (2, 3), (0, 1), (1, 2), (3, 0), (2, 3)]
"""Each goal was attacked in three ways. The halves take turns with the batches where goals come first."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    chance, invented = np.random.default_rng(0), Invented(LAYOUT)
    for batch, goals in enumerate(GOALS_OF_BATCHES):
        for goal in goals:
            for label in ("safe", "unsafe"):
                invented.add(batch, label, goal, 20, chance.integers(0, 20, LAYOUT.shape))
    return invented, invented.write(tmp_path_factory.mktemp("halves"))


def test_no_goal_is_of_both_halves(made):
    rows = read_batch_rows(RunDir(made[1].run_dir))
    assert half_of(rows).tolist() == [0, 0, 1, 1]
    one, other = ({goal for batch in view for goal in GOALS_OF_BATCHES[batch]} for view in _batches_of_halves(rows))
    assert (one, other) == ({0, 1}, {2, 3})


def test_batches_of_both_halves_give_no_gradient_of_either(made):
    one, other = _batches_of_halves(read_batch_rows(RunDir(made[1].run_dir)))
    assert (one.tolist(), other.tolist()) == ([0, 2], [1, 5])


@pytest.mark.parametrize(("view", "goals"), [(0, {0, 1, 2, 3}), (1, {0, 1}), (2, {2, 3})])
def test_routing_of_a_half_is_that_of_its_goals(made, view, goals):
    invented, config = made
    scores = routing_views(RunDir(config.run_dir), read_inputs(config, RunDir(config.run_dir)), OF_ROUTING)
    tables = []
    for batch in [*range(6), None]:
        here = [place[1:] for place in invented.places if place[2] in goals and batch in (place[0], None)]
        if here:
            counts, labels = np.stack([invented.counts[prompt] for prompt in here]), [label for label, _ in here]
            tables.append(calculate_risk_diff_per_batch(counts, [20] * len(here), labels, LAYOUT)["risk_diff"])
    *by_batch, pooled = tables
    np.testing.assert_allclose(scores["risk_diff"][view], pooled)
    np.testing.assert_allclose(scores["risk_diff_mean"][view], np.mean(by_batch, axis=0))
    np.testing.assert_allclose(scores["weight"][view], pooled / 4)
