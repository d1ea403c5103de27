"""What training leaves as a delta is, byte for byte, what is extracted from the checkpoint that it would have left."""

import pytest
import torch

from moe_safety.checkpoints import extract_delta, verify, write_trained
from moe_safety.config import ModelConfig
from moe_safety.errors import RunError
from moe_safety.models import inspect_model
from moe_safety.models.experts import selective_experts
from moe_safety.models.io import load_model, model_fingerprint
from moe_safety.models.io.save import save_model
from moe_safety.models.routers import routers
from tests.checkpoints.pairs import flip, load, save_base

EXPERTS = [(1, 2), (1, 7), (2, 5)]


def train_experts(model, experts=EXPERTS):
    """One step, of which some experts may get nothing."""
    ids = torch.arange(5, 37)[None]
    with selective_experts(model, experts) as chosen:
        names = dict(chosen.named_parameters())
        optimizer = torch.optim.SGD(chosen.parameters(), lr=1.0)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return names


def both_ways(model, given, trained, experts, folder):
    """The delta that is written straight, and the one that is extracted from the saved model."""
    layout = inspect_model(model)
    assert write_trained(model, given, layout, trained, experts, str(folder / "straight.safetensors"))
    (folder / "tuned").mkdir()
    save_model(model, folder / "tuned")
    extract_delta(given.name, folder / "tuned", folder / "extracted.safetensors")
    return [(folder / f"{way}.safetensors").read_bytes() for way in ("straight", "extracted")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "mixtral", "granitemoe"])
def test_it_is_what_is_extracted(name, dtype, tmp_path):
    given = ModelConfig(name=str(save_base(name, tmp_path / "base", dtype)))
    model = load_model(given)
    straight, extracted = both_ways(model, given, train_experts(model), EXPERTS, tmp_path)
    assert straight == extracted
    report = verify(given.name, tmp_path / "straight.safetensors", EXPERTS)
    assert report.violations == []
    assert report == verify(given.name, tmp_path / "tuned", EXPERTS)
    assert report.experts


def test_a_second_phase_keeps_what_the_first_one_changed(tmp_path):
    given = ModelConfig(name=str(save_base("olmoe", tmp_path / "base", torch.bfloat16)))
    model = load_model(given)
    layout = inspect_model(model)
    first = str(tmp_path / "first.safetensors")
    assert write_trained(model, given, layout, train_experts(model), EXPERTS, first)
    again = given.with_delta(first)
    model = load_model(again)
    assert model_fingerprint(again) != model_fingerprint(given)
    names = routers(model, layout)
    for name in names:
        flip(model.get_parameter(name))
    straight, extracted = both_ways(model, again, names, [], tmp_path)
    assert straight == extracted
    report = verify(given.name, tmp_path / "straight.safetensors", EXPERTS, True)
    assert (report.violations, report.routers) == ([], [0, 1, 2])
    assert report.experts


def test_a_base_in_other_types_has_no_delta(tmp_path):
    given = ModelConfig(name=str(save_base("olmoe", tmp_path / "base")), dtype="bfloat16")
    model = load_model(given)
    out = tmp_path / "delta.safetensors"
    assert not write_trained(model, given, inspect_model(model), train_experts(model), EXPERTS, str(out))
    assert not out.exists()


def test_what_is_neither_an_expert_nor_a_router_is_no_delta(tmp_path):
    given = ModelConfig(name=str(save_base("olmoe", tmp_path / "base")))
    model = load_model(given)
    with pytest.raises(RunError, match=r"a delta holds experts and routers, and model\.norm\.weight trained"):
        write_trained(model, given, inspect_model(model), ["model.norm.weight"], [], str(tmp_path / "d.safetensors"))


def test_a_delta_that_names_an_expert_outside_the_selection_fails(tmp_path):
    given = ModelConfig(name=str(save_base("gpt_oss", tmp_path / "base", torch.bfloat16)))
    model = load_model(given)
    both_ways(model, given, train_experts(model), EXPERTS, tmp_path)
    by_delta = verify(given.name, tmp_path / "straight.safetensors", EXPERTS[1:])
    assert {violation.problem.split(",")[0] for violation in by_delta.violations} == {"L01_E02 is not selected"}
    assert by_delta == verify(given.name, tmp_path / "tuned", EXPERTS[1:])
    assert load(tmp_path / "tuned")
