"""Arms that train side by side."""

from types import SimpleNamespace

import pytest
import ray

from moe_safety.jobs import cluster
from moe_safety.train import several


@pytest.mark.parametrize(("parallel", "at_once"), [("auto", 3), (2, 2), (8, 3)])
def test_no_more_replicas_are_asked_for_than_there_are_arms(parallel, at_once, monkeypatch):
    asked, told = [], []

    def beginner(config, at_once):
        asked.append(at_once)
        return lambda arm, anew: arm.name

    monkeypatch.setattr(cluster, "connect", lambda: None)
    monkeypatch.setattr(cluster, "groups_of_workers", lambda size: 64)
    monkeypatch.setattr(several, "_beginner", beginner)
    monkeypatch.setattr(ray, "wait", lambda running: (running[:1], running[1:]))
    monkeypatch.setattr(ray, "get", lambda name: {"manifest": {"of": name}})
    config = SimpleNamespace(compare=SimpleNamespace(parallel=parallel), train=SimpleNamespace(num_workers=1))
    arms = [SimpleNamespace(name=name) for name in "abc"]
    several._side_by_side(config, arms, (), lambda arm, manifest: told.append((arm.name, manifest["of"])))
    assert asked == [at_once]
    assert told == [(name, name) for name in "abc"]
