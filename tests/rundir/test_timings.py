"""Seconds are counted once, by the innermost thing that a thread does."""

import json
import sys
import threading

import pytest

from moe_safety.errors import RunError
from moe_safety.rundir import (
    KINDS,
    Account,
    Outcome,
    RunDir,
    Work,
    accounted,
    count_imports,
    run_work,
    spent,
    spent_by_replicas,
)


class Hands:
    """A clock that goes on when it is told to."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def go(self, seconds):
        self.now += seconds


CLOCK = Hands()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr("moe_safety.rundir.timings.time", CLOCK)


def of(account):
    return account.told()["driver"]


def test_what_is_inside_something_else_is_counted_once():
    account = Account()
    with spent("writing"):
        CLOCK.go(1)
        with spent("hashing"):
            CLOCK.go(3)
        CLOCK.go(1)
    CLOCK.go(2)
    told = account.told()
    assert sum(told["driver"].values()) == told["seconds"]
    assert told["driver"] == {"writing": 2, "hashing": 3, "other": 2}
    assert told["driver"].keys() < KINDS.keys()


def test_what_ends_badly_is_counted_too():
    @spent("writing")
    @spent("hashing")
    def fail():
        CLOCK.go(1)
        raise RunError("full")

    account = Account()
    with pytest.raises(RunError, match="full"):
        fail()
    CLOCK.go(1)
    assert of(account) == {"hashing": 1, "other": 1}


def test_an_account_begins_with_nothing_and_sees_what_is_going_on():
    with spent("waiting"):
        CLOCK.go(1)
        account = Account()
        CLOCK.go(1)
        assert of(account) == {"waiting": 1, "other": 0}


def test_helper_threads_are_not_counted():
    def hash_something():
        with spent("hashing"):
            CLOCK.go(1)

    account = Account()
    thread = threading.Thread(target=hash_something)
    with spent("waiting"):
        thread.start()
        thread.join()
    assert "hashing" not in of(account)
    assert of(account)["waiting"] >= 1


def test_replicas_seconds_stand_beside_and_may_be_more():
    account = Account()
    for _ in range(2):
        spent_by_replicas({"computing": 20.0, "weights": 1.5})
    told = account.told()
    assert told["replicas"] == {"weights": 3.0, "computing": 40.0}
    assert told["seconds"] < 1
    assert Account().told()["replicas"] == {}


def test_imports_count_wherever_they_happen(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "hands", CLOCK)
    takes_a_second = "import hands\nhands.go(1)\n"
    (tmp_path / "slow_outer.py").write_text(f"import slow_inner\n{takes_a_second}")
    (tmp_path / "slow_inner.py").write_text(takes_a_second)
    count_imports()
    count_imports()
    account = Account()
    try:
        import slow_outer  # noqa: F401

        assert of(account)["imports"] == 2
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            import no_such_module  # noqa: F401
    finally:
        for name in ("slow_outer", "slow_inner"):
            sys.modules.pop(name, None)


def stage(run, name, before=0.0):
    def body():
        CLOCK.go(1)
        run.write_bytes(f"{name}.txt", b"done")
        return Outcome((f"{name}.txt",), {})

    CLOCK.go(before)
    return run_work(run, Work(name, settings={}), {}, body)


def test_a_stage_says_where_its_seconds_went(tmp_path):
    run = RunDir(str(tmp_path))
    manifest = stage(run, "one", before=1)
    stored = json.loads((tmp_path / "manifests" / "one.json").read_text())
    assert stored["timings"] == manifest["timings"]
    told = manifest["timings"]
    assert sum(told["driver"].values()) == told["seconds"]
    assert told["seconds"] == 1


def test_stages_of_one_command_leave_no_gap(tmp_path):
    """What is done before the work, such as looking at a model's files, is the stage's too; a skipped one's is not the
    next one's."""
    run, began = RunDir(str(tmp_path)), CLOCK.now
    with accounted():
        told = [stage(run, name, before=1)["timings"]["seconds"] for name in ("one", "two")]
        assert sum(told) == CLOCK.now - began
        assert all(seconds >= 2 for seconds in told)
        stage(run, "one", before=5)
        assert stage(run, "three")["timings"]["seconds"] < 4
    CLOCK.go(5)
    assert stage(run, "four")["timings"]["seconds"] < 4


def test_a_stage_within_another_counts_for_both(tmp_path):
    run = RunDir(str(tmp_path))

    def outer():
        with accounted():
            inner.append(stage(run, "inner", before=1)["timings"]["seconds"])
        run.write_bytes("outer.txt", b"done")
        return Outcome(("outer.txt",), {})

    inner = []
    with accounted():
        whole = run_work(run, Work("outer", settings={}), {}, outer)["timings"]["seconds"]
    assert whole >= inner[0] >= 2


def test_timings_are_no_part_of_what_decides_a_stage(tmp_path):
    """Manifests of versions that did not count are read as before."""
    run = RunDir(str(tmp_path))
    stage(run, "one")
    stored = run.read_json("manifests/one.json")
    run.write_json("manifests/one.json", {name: value for name, value in stored.items() if name != "timings"})
    assert stage(run, "one")["skipped"]
