"""Intervals of effects hold the true effect as often as they say, however few the prompts; one prompt has none."""

import numpy as np
import pytest

from moe_safety.effects.table import effects_table, per_expert
from tests.identify.synthetic import make_layout

LAYOUT = make_layout((100,))
TRUTH = 0.3


def table_of(unsafe, control=0, seed=0):
    """Effects of 100 experts on so many prompts of each kind; those on unsafe prompts are `TRUTH` larger, and vary
    less than those on control prompts."""
    chance = np.random.default_rng([seed, unsafe, control])
    sides = [chance.normal(0.1 + TRUTH, 0.5, (unsafe, 1, 100)), chance.normal(0.1, 1.5, (control, 1, 100))]
    labels = ["unsafe"] * unsafe + ["control"] * control
    names = [str(row) for row in range(len(labels))]
    effects = effects_table(LAYOUT, names, labels, [0.0] * len(labels), np.concatenate(sides))
    return per_expert(effects, effects, LAYOUT).to_pandas()


def coverage(truth, **prompts):
    tables = [table_of(**prompts, seed=seed) for seed in range(60)]
    return np.mean([(table["low"] <= truth) & (truth <= table["high"]) for table in tables])


@pytest.mark.parametrize("prompts", [2, 3, 5, 10, 30])
def test_without_controls(prompts):
    assert 0.94 < coverage(0.1 + TRUTH, unsafe=prompts) < 0.96


@pytest.mark.parametrize(("unsafe", "control"), [(2, 2), (3, 3), (5, 5), (10, 10), (30, 30), (30, 3), (2, 30)])
def test_against_controls_with_the_smaller_side_s_number(unsafe, control):
    """Two sides have more degrees of freedom than the smaller one: its number errs on the safe side."""
    assert coverage(TRUTH, unsafe=unsafe, control=control) > 0.94


@pytest.mark.parametrize("prompts", [{"unsafe": 1}, {"unsafe": 1, "control": 8}, {"unsafe": 8, "control": 1}])
def test_one_prompt_has_no_interval(prompts):
    table = table_of(**prompts)
    assert table[["low", "high"]].isna().all(axis=None)
    assert table["effect"].notna().all()


def test_by_hand():
    effects = np.array([1.0, 2.0, 6.0, 0.0, 4.0]).reshape(5, 1, 1)
    layout = make_layout((1,))
    table = effects_table(layout, list("abcde"), ["unsafe"] * 3 + ["control"] * 2, [0.0] * 5, effects)
    (row,) = per_expert(table, table, layout).to_pylist()
    error = np.sqrt(7 / 3 + 8 / 2)
    assert (row["effect"], row["first_order"]) == (1, 1)
    assert (row["low"], row["high"]) == (pytest.approx(1 - 12.7062 * error), pytest.approx(1 + 12.7062 * error))
