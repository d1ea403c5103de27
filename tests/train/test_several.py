"""Arms that train side by side."""

import logging
import signal
import time
from types import SimpleNamespace

import pytest
import ray

from moe_safety.jobs import cluster
from moe_safety.stopping import Stopped, stoppable
from moe_safety.train import several


def arm(name, begins_as=None):
    return SimpleNamespace(name=name, begins_as=begins_as)


def configured(folder, parallel):
    """A configuration, and three arms."""
    settings = {"compare": SimpleNamespace(parallel=parallel), "train": SimpleNamespace(num_workers=1)}
    return SimpleNamespace(run_dir=str(folder), **settings), [arm(name) for name in "abc"]


@pytest.mark.parametrize(("parallel", "at_once"), [("auto", 3), (2, 2), (8, 3)])
def test_no_more_replicas_are_asked_for_than_there_are_arms(parallel, at_once, monkeypatch, capsys):
    asked, told = [], []

    def beginner(config, at_once):
        asked.append(at_once)
        return lambda arm, anew: arm.name

    monkeypatch.setattr(cluster, "connect", lambda: None)
    monkeypatch.setattr(cluster, "groups_of_workers", lambda size: 64)
    monkeypatch.setattr(several, "_beginner", beginner)
    monkeypatch.setattr(ray, "wait", lambda running: (running[:1], running[1:]))
    monkeypatch.setattr(ray, "get", lambda name: {"manifest": {"of": name}, "warned": ["slowly"]})
    config, arms = configured("unused", parallel)
    several._side_by_side(config, arms, (), lambda arm, manifest: told.append((arm.name, manifest["of"])))
    assert asked == [at_once]
    assert told == [(name, name) for name in "abc"]
    assert capsys.readouterr().err.splitlines() == [f"train {name}: slowly" for name in "abc"]


def test_who_goes_on_from_another_arm_comes_last_and_waits_for_it():
    both, alone, other, left_alone = arm("both", "alone"), arm("alone"), arm("other"), arm("more", "trained before")
    assert several.in_turn([both, alone, left_alone, other]) == [alone, left_alone, other, both]
    assert several.next_of([both, alone], []) is alone
    assert several.next_of([both], [alone, other]) is None
    assert several.next_of([both, left_alone], [alone]) is left_alone
    assert several.next_of([both], [other]) is both


def test_what_an_arm_warns_of_elsewhere_travels_with_its_manifest(monkeypatch):
    def training(arm, force):
        for _ in range(2):
            logging.getLogger("moe_safety.models").warning("steps are slower")
        return {"of": arm.name}

    monkeypatch.setattr(several, "train_and_verify", training)
    assert several._task(SimpleNamespace(name="a"), False) == {"manifest": {"of": "a"}, "warned": ["steps are slower"]}


def test_who_is_asked_to_stop_is_asked_until_it_has_and_nothing_more_begins(tmp_path, monkeypatch):
    begun = []

    def begin(arm, anew):
        begun.append(arm.name)
        return arm.name

    def wait(running):
        if len(running) == 2:
            signal.raise_signal(signal.SIGINT)
        asked = [tmp_path / "train" / name / "stop" for name in running]
        for _ in range(2):  # A phase that begins deletes what it finds.
            ends = time.monotonic() + 5
            while not all(file.exists() for file in asked):
                assert time.monotonic() < ends, "nobody asked again"
                time.sleep(0.01)
            for file in asked:
                file.unlink()
        return running[:1], running[1:]

    monkeypatch.setattr(cluster, "connect", lambda: None)
    monkeypatch.setattr(cluster, "groups_of_workers", lambda size: 64)
    monkeypatch.setattr("moe_safety.jobs.pool.release_replicas", lambda: None)
    monkeypatch.setattr(several, "_beginner", lambda config, at_once: begin)
    monkeypatch.setattr(several, "_ASKS_EVERY", 0.01, raising=False)
    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda name: {"stopped": True})
    config, arms = configured(tmp_path, 2)
    with pytest.raises(Stopped, match="SIGINT"), stoppable():
        several._side_by_side(config, arms, (), lambda *told: None)
    assert begun == ["a", "b"]
    assert not list(tmp_path.glob("train/*/stop"))
