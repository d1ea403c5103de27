"""The model that a process keeps: what works with it leaves it as it was, and another one takes its place."""

import os
import shutil

import pyarrow as pa
import torch

from moe_safety.config import EffectsConfig, GradientsConfig, ModelConfig
from moe_safety.effects.measurer import build_foreseer, build_measurer
from moe_safety.gradients.collector import build_collector
from moe_safety.models.demo import demo_folder
from moe_safety.models.experts import Trial
from moe_safety.models.io import kept_model
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
