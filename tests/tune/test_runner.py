"""Trials whose processes die: started again as often as allowed, recorded where that does not help."""

import os
import signal

import pytest
from ray import tune

from moe_safety.rundir import RunDir
from moe_safety.tune.records import Records
from moe_safety.tune.runner import run_trials
from moe_safety.tune.search import ROUND
from tests.tune.sweeps import sweep_of

SPACE = {"identify.score": {"choice": ["good", "dies once", "always dies", "broken", "too large"]}}


@pytest.fixture(scope="module")
def records(tmp_path_factory, ray_here):
    folder = tmp_path_factory.mktemp("deaths")
    sweep = sweep_of("selection", search="grid", space=SPACE, max_failures=1)

    def trial(config):
        name = config["point"]["identify.score"].strip('"')
        marker = folder / name
        if name == "always dies" or (name == "dies once" and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "broken":
            raise ZeroDivisionError("of ours")
        if name == "too large":
            raise MemoryError("no room for it")
        measures = {"selection_score": 0.5, "auroc": 0.5, "stability": 0.5, "experts": 4.0}
        tune.report({**measures, ROUND: 1, "rounds": 1})

    found = run_trials(sweep, Records(RunDir(str(folder)), "tune/deaths"), trial, resources={"cpu": 0.5}, at_once=2)
    assert not RunDir(str(folder)).files("tune/deaths/_ray"), "nothing of Tune's own is left"
    return {record.point["identify.score"].strip('"'): record for record in found}


def test_the_others_go_on(records):
    assert records["good"].status == records["dies once"].status == "finished"
    assert records["good"].last["auroc"] == 0.5
    assert len(records["dies once"].results) == 1


def test_what_always_dies_is_recorded(records):
    assert records["always dies"].status == "failed"
    assert records["always dies"].error
    assert "\n" not in records["always dies"].error


def test_a_fault_of_ours_is_told_in_a_line(records):
    assert records["broken"].status == "failed"
    assert "of ours" in records["broken"].error


def test_a_trial_without_memory_is_recorded(records):
    assert records["too large"].status == "failed"
    assert "no room for it" in records["too large"].error
