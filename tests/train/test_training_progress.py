"""What training says while it goes on: which step of how many, how fast, and how long the rest will take."""

import threading
import time
from types import SimpleNamespace

import pytest

from moe_safety.jobs import progress as lines
from moe_safety.rundir import Account, RunDir, spent
from moe_safety.train import launch, progress
from moe_safety.train.progress import PhaseProgress, Reached, SideBySide, publishing
from moe_safety.train.step_log import Watcher
from moe_safety.train.task import Task
from moe_safety.train.train import train
from moe_safety.train.worker import work
from tests.train.byhand import configured


def task_of(folder="train/selective-causal/round_1/experts", rounds=1, kind="experts"):
    config = SimpleNamespace(train=SimpleNamespace(num_rounds=rounds), arms={})
    return Task("selective-causal+router", config, None, kind, folder, "")


@pytest.fixture
def run(tmp_path):
    return RunDir(str(tmp_path))


def told(run, task, at=None, waited=60.0):
    line = PhaseProgress(run, task)
    line.started = 0.0
    if at:
        run.write_json(task.reached, at.__dict__)
    return f"{line.name}: {line.line(waited)}"


def test_a_line_says_the_step_of_all_the_speed_and_the_time_left(run):
    at = Reached("working", 12, 96, made=2, tokens=6800, seconds=2.0)
    assert told(run, task_of(), at) == "train selective-causal: step 12/96, 3,400 tokens/s, 84 s left"
    # A start after the tenth step: the speed is that of this start.
    at.add({"step": 12, "tokens": 3400, "seconds": 1.0})
    assert (at.step, at.made, at.share) == (13, 3, 13 / 96)


def test_what_is_done_is_of_all_phases_of_all_rounds():
    places = [task_of(f"train/x/round_{n}/{kind}", 2, kind).place for n in (1, 2) for kind in ("experts", "router")]
    assert places == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert Reached(step=5, steps=10, part=2, parts=4).share == 2.5 / 4


def test_phases_come_before_the_first_step_and_after_the_last(run):
    task = task_of("train/selective-causal/round_2/router", rounds=3, kind="router")
    assert told(run, task) == "train selective-causal, round 2/3, router: working, for 60 s"
    with spent("waiting"):
        assert told(run, task).endswith(": waiting for workers, for 60 s")
    assert told(run, task, Reached("reading weights")).endswith(": reading weights, for 60 s")
    assert told(run, task, Reached("working", 4, 9)).endswith(": working, step 4/9, for 60 s")
    assert told(run, task, Reached("writing files", 9, 9, 9, 1, 1.0)).endswith(": writing files, step 9/9")


def test_of_trainings_side_by_side_it_is_said_how_many_are_done_and_when_all_will_be(run):
    names = ["a", "b"]
    arms = SideBySide("train", "arms", run, 4, lambda: {name: f"train/{name}" for name in names})
    arms.started, arms.done = 0.0, 1
    run.write_json("train/a/reached.json", Reached("working", 5, 10, 5, 500, 5.0).__dict__)
    assert arms.line(60.0) == "1/4 arms; a: step 5/10, 100 tokens/s, 5.0 s left; b: at work; 100 s left in all"
    arms.stood = 1
    assert arms.line(60.0).endswith("; 5 min left in all"), "what was done before took none of this time"
    names += ["c", "d", "e"]
    assert "; c: at work; 2 more at work; " in arms.line(60.0)
    assert SideBySide("train", "arms", run, 4, dict).line(60.0) == "0/4 arms"


def test_what_cannot_be_written_changes_nothing_and_nothing_is_left(run, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.01)
    tried = threading.Event()
    with monkeypatch.context() as full:
        full.setattr(run, "write_json", lambda name, value: tried.set() or 1 / 0)
        with publishing(run, task_of()):
            assert tried.wait(30)
    assert list(tmp_path.iterdir()) == []


def test_training_tells_how_far_it_is(tmp_path, monkeypatch, capsys):
    """On Ray too, whose worker is this process here: what the line is made of stands in the run directory."""
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(lines, "LOG_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(lines, "_LOOK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr("moe_safety.jobs.cluster.connect", lambda: None)
    monkeypatch.setattr(launch, "_fit", lambda run, task: work(task, Account()))
    config = configured(tmp_path, [(0, 1)], "train.launch=ray")
    file, said, real = tmp_path / "train" / "selective-routing" / "reached.json", "", Watcher.__call__

    def slowly(self, row):
        nonlocal said
        real(self, row)
        until = time.monotonic() + 60
        while row["step"] == 1 and "routing: step 2/4, " not in said and time.monotonic() < until:
            time.sleep(0.01)
            said += capsys.readouterr().err

    monkeypatch.setattr(Watcher, "__call__", slowly)
    train(config)
    line = next(line for line in said.splitlines() if " step 2/4, " in line)
    assert line.startswith("train selective-routing: step 2/4, ")
    assert line.endswith(" left")
    assert not file.exists()
