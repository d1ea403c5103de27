"""Every family's checkpoint, as transformers writes it: which tensors, or rows, are whose."""

import pytest
import torch
from transformers import AutoModelForCausalLM, OlmoeConfig

from moe_safety.checkpoints import verify
from moe_safety.models import inspect_model
from tests.checkpoints.pairs import load, save_base, save_tuned
from tests.families import FAMILIES


@pytest.mark.parametrize("name", FAMILIES)
def test_exactly_the_changed_expert_and_router_are_named(name, tmp_path):
    base = save_base(name, tmp_path / "base")
    model = load(base)
    layer = inspect_model(model).layers[-1]
    expert = (layer.index, 5)
    tuned = save_tuned(base, tmp_path / "tuned", [expert], [layer.index])
    router = sum(parameter.numel() for parameter in model.get_submodule(layer.router).parameters())

    report = verify(base, tuned, [expert], routers_allowed=True)
    assert report.violations == []
    assert (report.experts, report.routers) == ([expert], [layer.index])
    assert report.changed == layer.parameters_per_expert + router

    problems = [violation.problem for violation in verify(base, tuned, [expert]).violations]
    assert problems
    assert all(problem.startswith(f"router of layer {layer.index}, ") for problem in problems)
    other = (layer.index, 4)
    problems = [violation.problem for violation in verify(base, tuned, [other], routers_allowed=True).violations]
    assert problems
    assert all(problem.startswith(f"L{layer.index:02d}_E05 is not selected, ") for problem in problems)


@pytest.mark.parametrize("name", ["olmoe", "mixtral", "deepseek_v3", "granitemoe", "nemotron_h"])
def test_a_checkpoint_in_the_models_own_names_is_read_as_well(name, tmp_path):
    base = save_base(name, tmp_path / "base", save_original_format=False)
    layer = inspect_model(load(base)).layers[0]
    tuned = save_tuned(base, tmp_path / "tuned", [(layer.index, 2)], save_original_format=False)
    report = verify(base, tuned, [(layer.index, 2)])
    assert (report.violations, report.experts) == ([], [(layer.index, 2)])
    assert report.changed == layer.parameters_per_expert


def test_the_tenth_expert_is_not_the_second(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 11, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(OlmoeConfig(**sizes, num_experts=12, vocab_size=32))
    model.save_pretrained(tmp_path / "base")
    tuned = save_tuned(tmp_path / "base", tmp_path / "tuned", [(10, 11)])
    assert verify(tmp_path / "base", tuned, [(10, 11)]).experts == [(10, 11)]
