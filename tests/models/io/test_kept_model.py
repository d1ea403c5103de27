"""The model that a process keeps: what works with it leaves it as it was, and another one takes its place."""

import os
import shutil
import weakref

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_safety.checkpoints import extract_delta
from moe_safety.config import EffectsConfig, GradientsConfig, ModelConfig
from moe_safety.effects.measurer import build_foreseer, build_measurer
from moe_safety.errors import RunError
from moe_safety.gradients.collector import build_collector
from moe_safety.models.demo import demo_folder
from moe_safety.models.experts import Trial
from moe_safety.models.io import Lent, forget_model, kept_model
from moe_safety.routing.reader import build_reader

MODEL = ModelConfig(name="demo")
PROMPTS, ANSWERS = [[5, 6, 7, 8, 9], [9, 8, 7]], [[11, 12], [13]]


def state(model):
    """Everything that a handler could leave behind."""
    hooks = {
        name: [len(getattr(module, kind)) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
        for name, module in model.named_modules()
    }
    weights = {
        name: (parameter.detach().clone(), parameter.requires_grad, parameter.grad)
        for name, parameter in model.named_parameters()
    }
    traits = {name: (module.training, type(module).forward) for name, module in model.named_modules()}
    return hooks, weights, traits, model.config.to_json_string()


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[2:] == other[2:]
    for name, (weight, trains, gradient) in one[1].items():
        now, trains_now, gradient_now = other[1][name]
        assert torch.equal(weight, now), name
        assert (trains, gradient) == (trains_now, gradient_now), name


def test_stages_leave_the_model_as_it_was():
    first = state(kept_model(MODEL, 1))
    rows = pa.table(
        {
            "prompt_id": ["a", "b"],
            "tokens": PROMPTS,
            "forward": [0, 0],
            "counted_from": [1, 0],
            "counted_to": [5, 3],
        }
    )
    build_reader(MODEL, 1, per_token=True)(rows, {})
    assert_same(first, state(kept_model(MODEL, 1)))
    batch = pa.table({"batch_idx": [0, 0], "prompt": PROMPTS, "target": ANSWERS})
    build_collector(MODEL, GradientsConfig())(batch, {})
    build_collector(MODEL, GradientsConfig(checkpointing=True))(batch, {})
    assert_same(first, state(kept_model(MODEL, 1)))
    trials = pa.table(
        {
            "prompt_id": ["a", "b"],
            "label": ["unsafe", "control"],
            "prompt": PROMPTS,
            "safe": ANSWERS,
            "unsafe": [[14], [15, 16]],
            "experts": [[0, 5], [3]],
        }
    )
    build_foreseer(MODEL, EffectsConfig())(trials, {})
    build_measurer(MODEL, EffectsConfig(), Trial(PROMPTS[0], ANSWERS[0], [14]), [])(trials, {})
    assert_same(first, state(kept_model(MODEL, 1)))


def test_a_model_written_anew_is_read_anew(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(demo_folder(), folder)
    config = ModelConfig(name=str(folder))
    first = kept_model(config, 1)
    assert kept_model(config, 1) is first
    (weights,) = folder.glob("*.safetensors")
    again = tmp_path / "again"
    shutil.copy(weights, again)
    os.replace(again, weights)
    assert kept_model(config, 1) is not first


def changed_by(parameter, tmp_path):
    """A delta of the demo model in which one expert of it is another."""
    tuned = tmp_path / "tuned"
    shutil.copytree(demo_folder(), tuned)
    file = tuned / "model.safetensors"
    weights = load_file(file)
    weights[parameter] += 1
    save_file(weights, file, metadata={"format": "pt"})
    extract_delta(demo_folder(), tuned, tmp_path / "delta.safetensors")
    return MODEL.with_delta(str(tmp_path / "delta.safetensors"))


@torch.no_grad()
def test_a_model_that_was_changed_by_a_delta_is_kept_on(tmp_path):
    base = kept_model(MODEL, 1)
    first = state(base)
    tuned = changed_by("model.layers.0.mlp.experts.3.up_proj.weight", tmp_path)
    lent = Lent.of(MODEL)
    assert lent.model is base
    base.model.layers[0].mlp.experts.gate_up_proj[3, 48:] += 1
    lent.give_back(tuned)
    assert kept_model(MODEL, 1) is base
    assert_same(first, state(base))


@torch.no_grad()
def test_a_base_that_is_written_anew_while_it_is_lent_is_read_anew(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(demo_folder(), folder)
    config = ModelConfig(name=str(folder))
    tuned = config.with_delta(changed_by("model.layers.0.mlp.experts.3.up_proj.weight", tmp_path).delta)
    lent = Lent.of(config)
    lent.model.model.layers[0].mlp.experts.gate_up_proj[3, 48:] += 1
    again = tmp_path / "again"
    shutil.copy(folder / "model.safetensors", again)
    os.replace(again, folder / "model.safetensors")
    lent.give_back(tuned)
    assert kept_model(config, 1) is not lent.model


@torch.no_grad()
@pytest.mark.parametrize("moved", ["model.layers.1.mlp.experts.down_proj", "model.norm.weight"])
def test_what_the_delta_does_not_tell_of_is_seen(tmp_path, moved):
    base = kept_model(MODEL, 1)
    tuned = changed_by("model.layers.0.mlp.experts.3.up_proj.weight", tmp_path)
    lent = Lent.of(MODEL)
    base.model.layers[0].mlp.experts.gate_up_proj[3, 48:] += 1
    base.get_parameter(moved).view(-1)[0] += 1e-3
    with pytest.raises(RunError, match=f"{moved} is not what it was before training"):
        lent.give_back(tuned)
    assert kept_model(MODEL, 1) is not base


def test_a_model_that_does_not_come_back_leaves_its_memory_to_the_next():
    """Its modules hold on to each other, until somebody collects."""
    lent = Lent.of(MODEL)
    there = weakref.ref(lent.model)
    del lent
    forget_model()
    assert there() is None
