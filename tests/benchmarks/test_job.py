"""The benchmark of a whole job, on the demo model, and its formulas."""

import numpy as np
import pytest
import ray

from benchmarks.job.__main__ import main
from benchmarks.job.floors import Floors, Machine, Shape
from moe_safety.jobs.pool import release_replicas
from tests.demo import REPLICAS

OLMOE = Shape(
    layers=16,
    dense=16 * (4 * 2048**2 + 2048 * 64),
    active=16 * 8 * 3 * 2048 * 1024,
    head=2048 * 50304,
    weights=13_838_323_712,
    cache=2 * 16 * 2048 * 2,
)
H100 = Floors(OLMOE, Machine(dense=750e12, grouped=670e12, memory=3.0e12))


def test_the_formulas_are_the_known_floors():
    """Milliseconds of a capture of 16x512 tokens, of a selective step and of all gradients of 16x256, and of a step of
    256 answers."""
    assert 1e3 * H100.forward(16 * 512) == pytest.approx(25, abs=1)
    assert 1e3 * H100.backward(16 * 256, "few") == pytest.approx(27, abs=1)
    assert 1e3 * H100.backward(16 * 256, "experts") == pytest.approx(37, abs=1)
    assert 1e3 * H100.decode(256, 192) == pytest.approx(6.7, abs=0.2)
    assert H100.answers(np.full(256, 128), 256 * 128) / 128 > H100.decode(256, 192)
    assert H100.answers(np.zeros(0), 0) == 0


def test_the_demo_as_a_job(capfd, ray_here, monkeypatch):
    """On the cluster that is there: starting another takes longer than most stages."""
    release_replicas()
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    small = ["data.max_samples=40", "compare.arms=[base,selective-routing]", "train.num_epochs=1"]
    small += ["evaluate.reidentify=false", "evaluate.reattack=[]", "identify.bootstrap_rounds=20"]
    small += [f"{key}={count}" for key, count in REPLICAS.items()]
    flags = [flag for one in small for flag in ("--set", one)]
    assert main(["--runs", "1", *flags]) == 0
    told = capfd.readouterr().out.splitlines()
    table = {line.split()[0]: line.split() for line in told[next(n for n, x in enumerate(told) if "arithmetic" in x) :]}
    assert {"respond", "capture", "identify", "train/selective-routing", "evaluate/base", "all"} <= table.keys()
    for stage in ("respond", "capture", "train/selective-routing", "evaluate/base"):
        seconds, arithmetic, times = map(float, table[stage][1:4])
        assert seconds > arithmetic > 0, stage
        assert times == pytest.approx(seconds / arithmetic, rel=0.2)
