"""The control that attacks visit most: what it chooses, and that it trains that and nothing else."""

import pyarrow as pa
import pytest

from moe_safety.arms import ARMS, seeded_arms
from moe_safety.errors import InputError
from moe_safety.identify import read_selection
from moe_safety.rundir import RunDir
from moe_safety.train.several import train_and_verify
from moe_safety.train.train import train
from moe_safety.train.verified import verified
from tests.train.byhand import configured

EXPERTS = [(0, 1), (2, 3), (3, 8)]
RATES = [((0, 1), 0.2), ((0, 4), 0.9), ((1, 2), 0.5), ((1, 0), 0.5), ((2, 3), None), ((2, 4), float("nan"))]
"""The best, two that are equal, and two that are not known."""


@pytest.fixture
def arms(tmp_path):
    """Makes the arm and its repeats, in a run with these rates."""

    def make(*flags):
        config = configured(tmp_path / "run", EXPERTS, "compare.arms=[most-visited]", "compare.parallel=1", *flags)
        rows = [{"layer": layer, "expert": expert, "a_unsafe_n": rate} for (layer, expert), rate in RATES]
        RunDir(config.run_dir).write_table("risk_diff.parquet", pa.Table.from_pylist(rows))
        return seeded_arms(config)

    return make


def test_it_is_as_many_as_the_run_s_own_selection_has_and_those_that_attacks_visit_most(arms):
    arm, repeat = arms("compare.seeds=[7]")
    arm.select()
    made = read_selection(RunDir(arm.config.run_dir), arm.selection)
    assert made.experts == [(0, 4), (1, 0), (1, 2)]
    assert set(map(tuple, made.per_batch.values())) == {tuple(made.experts)}
    assert made.method == "most_visited"
    assert repeat.selection == arm.selection, "another seed changes nothing in it"
    repeat.select()
    assert arm.control_of == "selective-routing"


def test_it_trains_these_alone(arms):
    (arm,) = arms("train.num_rounds=2", "train.reidentify=true")
    arm.select()
    train_and_verify(arm, force=False)
    found = verified(RunDir(arm.config.run_dir), arm)
    assert found["verify"] == "pass"
    assert {tuple(pair) for pair in found["experts"]} <= {(0, 4), (1, 0), (1, 2)}
    assert found["experts"]


def test_train_alone_selects_for_it_and_trains_it(arms):
    (arm,) = arms("train.arm=most-visited")
    assert train(arm.config)["summary"]["arm"] == "most-visited"
    assert RunDir(arm.config.run_dir).read_json("train/most-visited/round_1/selection.json")["method"] == "most_visited"


def test_without_the_table_it_says_what_is_missing(tmp_path):
    config = configured(tmp_path / "run", EXPERTS, "compare.arms=[most-visited]")
    (arm,) = seeded_arms(config)
    with pytest.raises(InputError, match=r"needs risk_diff\.parquet, which is not there"):
        arm.select()


def test_it_is_no_repair():
    assert ARMS.get("most-visited").is_control
    assert not ARMS.get("most-visited").repairs
