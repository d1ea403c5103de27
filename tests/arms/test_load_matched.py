"""The control that is matched in layers and load, and the run's own selection under a budget."""

import pyarrow as pa
import pytest

from moe_safety.arms import budget_arms, seeded_arms
from moe_safety.identify import read_selection
from moe_safety.rundir import RunDir
from tests.train.byhand import configured

EXPERTS = [(0, 1), (2, 3), (2, 4)]
BUSY, IDLE = 0.5, 0.1
LOADS = {(0, 1): BUSY, (0, 2): BUSY, (0, 3): IDLE, (2, 3): BUSY, (2, 4): IDLE, (2, 5): BUSY, (2, 6): IDLE}


@pytest.fixture
def run(tmp_path):
    def make(*flags):
        config = configured(tmp_path / "run", EXPERTS, "compare.parallel=1", *flags)
        rows = [{"layer": layer, "expert": expert, "a_unsafe_n": load} for (layer, expert), load in LOADS.items()]
        RunDir(config.run_dir).write_table("risk_diff.parquet", pa.Table.from_pylist(rows))
        return config

    return make


def experts(arm):
    arm.select()
    return read_selection(RunDir(arm.config.run_dir), arm.selection).experts


def test_each_is_drawn_in_its_layer_among_those_of_its_load(run):
    (arm,) = seeded_arms(run("compare.arms=[random-load-matched]"))
    assert experts(arm) == [(0, 2), (2, 5), (2, 6)], "one other of each layer and load is there"


def test_a_budget_takes_the_first_of_the_selection_and_what_stands_for_them(run):
    arms = {(arm.kind, arm.budget): arm for arm in budget_arms(run("compare.budgets=[1,2]", "compare.draws=1"))}
    assert experts(arms["own-selection", 1]) == EXPERTS[:1]
    assert experts(arms["own-selection", 2]) == EXPERTS[:2]
    assert experts(arms["random-load-matched", 2]) == [(0, 2), (2, 5)]
    assert [layer for layer, _ in sorted(experts(arms["random-layer-matched", 2]))] == [0, 2]
    assert len(experts(arms["random", 1])) == 1
