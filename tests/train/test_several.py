"""Arms that train side by side."""

import logging
from types import SimpleNamespace

import pytest
import ray

from moe_safety.jobs import cluster
from moe_safety.train import several


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
    config = SimpleNamespace(compare=SimpleNamespace(parallel=parallel), train=SimpleNamespace(num_workers=1))
    arms = [SimpleNamespace(name=name) for name in "abc"]
    several._side_by_side(config, arms, (), lambda arm, manifest: told.append((arm.name, manifest["of"])))
    assert asked == [at_once]
    assert told == [(name, name) for name in "abc"]
    assert capsys.readouterr().err.splitlines() == [f"train {name}: slowly" for name in "abc"]


def test_what_an_arm_warns_of_elsewhere_travels_with_its_manifest(monkeypatch):
    def training(arm, force):
        for _ in range(2):
            logging.getLogger("moe_safety.models").warning("steps are slower")
        return {"of": arm.name}

    monkeypatch.setattr(several, "train_and_verify", training)
    assert several._task(SimpleNamespace(name="a"), False) == {"manifest": {"of": "a"}, "warned": ["steps are slower"]}
