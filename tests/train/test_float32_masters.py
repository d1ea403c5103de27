"""What is said of routers that learn less than their type can hold."""

import pytest
import torch
from safetensors.torch import load_file

from moe_safety.rundir import RunDir
from moe_safety.train.float32_masters import half_last_bits
from moe_safety.train.train import train
from tests.train.byhand import configured
from tests.train.tiny import Case, run_workers

ARM = "train/selective-routing+router"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_of_the_last_bit(dtype):
    values = (torch.randn(2000, generator=torch.Generator().manual_seed(4)) * 3).to(dtype)
    bits = torch.int16 if dtype == torch.bfloat16 else torch.int32
    following = (values.abs().view(bits) + 1).view(dtype)
    assert torch.equal(half_last_bits(values), (following.double() - values.abs().double()) / 2)
    assert half_last_bits(torch.zeros(3, dtype=dtype)).tolist() == [0, 0, 0]


@pytest.fixture
def trained(tmp_path, capsys):
    """Trains experts and routers; gives what the metadata say of the routers, what was printed, and both models."""

    def make(*flags):
        config = configured(tmp_path / "run", [(0, 1)], "train.router.enabled=true", "train.learning_rate=1e-5", *flags)
        train(config)
        run = RunDir(config.run_dir)
        (said,) = run.read_json(f"{ARM}/training_metadata.json")["router_rounding_per_round"].values()
        before, after = (load_file(run.path(f"{ARM}/round_1/{phase}/model/model.safetensors")) for phase in PHASES)
        names = [name for name in before if name.endswith("mlp.gate.weight")]
        changed = sum(int((before[name] != after[name]).sum()) for name in names)
        return said, capsys.readouterr().out, changed, sum(before[name].numel() for name in names)

    return make


PHASES = ("experts", "router")
WARNING = "warning: the router phase's learning rates sum to"


def test_what_bfloat16_rounds_away_is_said(trained):
    said, told, changed, elements = trained("model.dtype=bfloat16", "train.router.lr=1e-6")
    assert (said["changed"], said["elements"], said["dtype"]) == (changed, elements, "bfloat16")
    assert said["changed"] < said["changed_masters"] / 2
    assert said["summed_rate"] == pytest.approx(1.5e-6)
    assert 0 < said["largest_difference"] < 1.6e-6, "Adam moves nothing by much more than the rates' sum"
    assert f"routers: {changed} of {elements} elements changed, {said['changed_masters']} in their float32" in told
    assert WARNING in told


def test_a_rate_that_moves_them_is_not_warned_of(trained):
    said, told, changed, elements = trained("model.dtype=bfloat16", "train.router.lr=1e-2")
    assert said["changed"] == changed > elements / 2
    assert WARNING not in told


def test_in_float32_nothing_is_rounded(trained):
    said, told, changed, _ = trained("train.router.lr=1e-6")
    assert said["changed"] == said["changed_masters"] == changed > 0
    assert said["largest_difference"] == 0
    assert WARNING not in told


@pytest.mark.soak
def test_masters_that_are_spread_over_workers(tmp_path):
    """The same is said under each stage of ZeRO as in one process, up to what bfloat16 does to sums."""
    cases = [
        Case(phase="router", dtype=torch.bfloat16, rate=1e-4, epochs=1, stage=stage, optimizer=torch.optim.AdamW)
        for stage in (1, 2, 3)
    ]
    found = [each["rounding"] for each in run_workers(cases, 2, tmp_path)]
    for each in found:
        assert 0 < each["changed"] < each["changed_masters"] <= each["elements"]
        assert 0 < each["largest_difference"] < 5e-4
    assert len({each["elements"] for each in found}) == 1
