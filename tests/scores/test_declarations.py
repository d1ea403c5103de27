"""Each score is declared in full, and light to import."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from docs.generate import configuration_page
from moe_safety.identify import Experts
from moe_safety.identify.pictures import heatmap
from moe_safety.pipeline import STAGES
from moe_safety.scores import LABELS, SCORES, RoutingScore, Sums
from tests.demo import demo

EXPERTS = Experts.of_shape(2, 3)
EVERY = pytest.mark.parametrize("score", list(SCORES), ids=SCORES.names())


def values_of(score):
    """By its formula, from tables or sums made up."""
    chance = np.random.default_rng(0)
    if isinstance(score, RoutingScore):
        sums = Sums(np.concatenate([np.full((4, len(LABELS), 1), 20), chance.integers(0, 20, (4, len(LABELS), 6))], 2))
        assert score.formula(sums).shape == (4, 6)
        return score.aggregated(sums)[0]
    return score.of_table(pd.DataFrame({column: chance.random(6) for column in score.columns}))


@EVERY
def test_a_score_says_what_it_is(score):
    words = (score.title, score.definition, score.heading, score.unit, score.sign)
    assert all(word and word == word.strip() and not word.endswith(".") for word in words)
    assert score.sign.startswith("more is guiltier: ")
    assert float(format(0.25, score.form)) == 0.25
    assert score.interval is None or len(set(score.interval)) == 2


@EVERY
def test_a_score_reads_what_some_stage_leaves(score, tmp_path):
    assert score.reads.stage in STAGES
    assert score.reads.settings(demo(tmp_path))
    assert isinstance(score, RoutingScore) or (score.reads.collected and score.reads.fold)


@EVERY
def test_a_formula_gives_each_expert_a_value_that_can_be_drawn(score):
    values = values_of(score)
    assert values.shape == (6,)
    assert np.isfinite(values).all()
    assert score.title in heatmap(EXPERTS, values, [], score.title).axes[0].get_title()


@EVERY
def test_a_score_is_documented_with_its_method(score):
    page = configuration_page().partition("## Scores")[2]
    row = next(line for line in page.splitlines() if f"`{score.name}`" in line)
    assert f"`{score.method}`" in row
    assert score.definition in row


def test_each_method_has_one_first_choice():
    methods = {score.method for score in SCORES}
    assert sorted(score.method for score in SCORES if score.default) == sorted(methods)
    assert methods == {"routing", "gradient", "causal"}


def test_declarations_load_nothing_heavy():
    code = "import sys, moe_safety.everything\nprint({'torch', 'ray', 'matplotlib', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
