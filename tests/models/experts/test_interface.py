"""Families with an experts call of their own run through the experts interface, unchanged in what they compute."""

from __future__ import annotations

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from transformers import AutoModelForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

from moe_safety.models import inspect_model
from moe_safety.models.experts.interface import adopt, release
from moe_safety.models.families import FAMILIES, family_of
from tests.families import build

ADOPTED = [family.name for family in FAMILIES if family.adoption]
IDS = torch.randint(3, 128, (2, 9), generator=torch.Generator().manual_seed(1))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture
def counted_calls(monkeypatch):
    """A registered experts function that notes how it was called."""
    calls = []

    def fn(self, hidden, index, weights):
        calls.append((self, index))
        return grouped_mm_experts_forward(self, hidden, index, weights)

    monkeypatch.setitem(ALL_EXPERTS_FUNCTIONS._global_mapping, "counted", fn)
    return calls


@pytest.mark.parametrize("name", ADOPTED)
def test_adoption_runs_the_registered_function_and_changes_nothing(name, counted_calls):
    model = build(name)
    before, names = logits(model), list(model.state_dict())
    adopt(model)
    adopt(model)
    model.set_experts_implementation("counted")
    torch.testing.assert_close(logits(model), before, atol=1e-6, rtol=1e-5)
    layout = inspect_model(model)
    assert [call[0] for call in counted_calls] == [model.get_submodule(layer.experts) for layer in layout.layers]
    assert list(model.state_dict()) == names
    assert layout == inspect_model(build(name))


@pytest.mark.parametrize("name", ADOPTED)
def test_release_gives_the_model_back(name, counted_calls):
    model = build(name)
    classes, before = [type(module) for module in model.modules()], logits(model)
    adopt(model)
    release(model)
    model.set_experts_implementation("counted")
    assert [type(module) for module in model.modules()] == classes
    assert torch.equal(logits(model), before)
    assert not counted_calls


@pytest.mark.parametrize("name", ADOPTED)
def test_a_weight_of_zero_holds_an_expert_back(name):
    model, reference = build(name), build(name)
    adopt(model)
    layer = inspect_model(model).layers[0]
    held = 3

    def hold_back(module, args):
        hidden, index, weights = args
        return hidden, index, weights.masked_fill(index == held, 0)

    model.get_submodule(layer.experts).register_forward_pre_hook(hold_back)
    down = next(path for path in layer.parameters if path.endswith("down_proj"))
    untouched = logits(reference)
    with torch.no_grad():
        reference.get_parameter(down)[held] = 0
    assert not torch.equal(logits(reference), untouched)
    torch.testing.assert_close(logits(model), logits(reference), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ADOPTED)
def test_gradients_of_an_adopted_model_are_the_models_own(name):
    own, adopted = build(name), build(name)
    adopt(adopted)
    for model in (own, adopted):
        model(IDS, labels=IDS).loss.backward()
    expected = {path: parameter.grad for path, parameter in own.named_parameters() if parameter.grad is not None}
    assert expected
    for path, grad in expected.items():
        torch.testing.assert_close(adopted.get_parameter(path).grad, grad, atol=1e-6, rtol=1e-4, msg=path)


@pytest.mark.parametrize("name", ADOPTED)
def test_adoption_reaches_below_the_hooks_of_a_spread_model(name, counted_calls):
    model = build(name)
    before = logits(model)
    for module in list(model.modules()):
        add_hook_to_module(module, ModelHook())
    adopt(model)
    model.set_experts_implementation("counted")
    torch.testing.assert_close(logits(model), before, atol=1e-6, rtol=1e-5)
    assert counted_calls
    release(model)
    assert torch.equal(logits(model), before)
    for module in model.modules():
        remove_hook_from_module(module)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("name", ADOPTED)
def test_an_adopted_model_saves_as_a_plain_one(name, tmp_path):
    model = build(name)
    before = logits(model)
    adopt(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), before)


def test_other_families_are_left_alone():
    model = build("mixtral")
    classes = [type(module) for module in model.modules()]
    adopt(model)
    assert [type(module) for module in model.modules()] == classes


def test_tokens_that_skip_go_to_no_expert():
    model = build("zaya")
    layer = inspect_model(model).layers[0]
    seen = []
    family = family_of(model.config)
    model.get_submodule(layer.experts).register_forward_pre_hook(
        lambda module, args: seen.append(family.routing_of(layer.num_experts, args, {})[0])
    )
    logits(model)
    model.get_submodule(layer.router).balancing_biases[-1] = 10
    logits(model)
    usual, skipped = seen
    assert (usual < layer.num_experts).all()
    assert (skipped == layer.num_experts).all()


def test_identity_experts_are_no_experts():
    model = build("longcat_flash")
    layer = inspect_model(model).layers[0]
    family = family_of(model.config)
    index = torch.tensor([[0, 7], [8, 11]])
    routed, _ = family.routing_of(layer.num_experts, (None, index, torch.ones(2, 2)), {})
    assert routed.tolist() == [[0, 7], [8, 8]]
    assert layer.parameters_per_expert == 3 * 16 * 32
