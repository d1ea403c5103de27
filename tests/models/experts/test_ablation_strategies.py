import pytest
import torch

from moe_safety import inspect_model
from moe_safety.models.experts import Trial, ablation_strategies, use_our_experts
from moe_safety.models.experts.ablation_strategies import Shared, Whole, choose_way, grouped_margins
from moe_safety.models.experts.truncated_copy import sketch
from tests.families import build

GENERATOR = torch.Generator().manual_seed(11)
ALL, LAYERS, NOTHING = Shared(joined=True), Shared(joined=False), Whole()
"""What a way shares: layers and prompts, layers alone, nothing."""


def tokens(length):
    return torch.randint(3, 90, (length,), generator=GENERATOR).tolist()


TRIAL = Trial(tokens(40), tokens(5), tokens(7))
"""Longer than the window of families that have one here."""


def adopted(name, dtype=torch.float32):
    model = use_our_experts(build(name).to(dtype))
    return model, inspect_model(model)


def margins(way, model, layout):
    held = [(layout.position(layer), [expert]) for layer, expert in layout.experts()]
    with torch.inference_mode():
        return grouped_margins(model, layout, TRIAL, held, way, 16384)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, ALL) for name in ("olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v3", "glm4_moe", "llama4_text")),
        # Attention that looks back only so far, or keeps a state, takes no mask.
        *((name, LAYERS) for name in ("mixtral", "gpt_oss", "qwen3_next", "lfm2_moe")),
        # Norms above the experts, and states from layer to layer.
        *((name, NOTHING) for name in ("flex_olmo", "gemma4_text", "zaya", "deepseek_v4")),
    ],
)
def test_a_model_is_run_in_the_cheapest_way_that_is_right(name, expected, dtype):
    model, layout = adopted(name, dtype)
    with torch.inference_mode():
        assert choose_way(model, layout, TRIAL, 16384) == expected


@pytest.mark.parametrize(
    ("name", "way"),
    [("olmoe", ALL), ("deepseek_v3", ALL), ("llama4_text", ALL), ("longcat_flash", ALL), ("gpt_oss", LAYERS)],
)
def test_a_way_that_is_taken_gives_what_whole_forward_passes_give(name, way):
    """Every expert of every layer, and the model without any change."""
    model, layout = adopted(name)
    torch.testing.assert_close(margins(way, model, layout), margins(NOTHING, model, layout), rtol=0, atol=5e-6)


@pytest.mark.parametrize("way", [ALL, LAYERS])
def test_tokens_that_fill_a_line_up_change_nothing(way, monkeypatch):
    model, layout = adopted("olmoe", torch.float64)
    before = margins(way, model, layout)
    monkeypatch.setattr(ablation_strategies, "_MULTIPLE", {"cpu": 16})
    torch.testing.assert_close(margins(way, model, layout), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "way"), [("mixtral", ALL), ("qwen3_next", ALL), ("flex_olmo", LAYERS)])
def test_a_way_that_is_not_taken_would_be_wrong(name, way):
    model, layout = adopted(name)
    assert (margins(way, model, layout) - margins(NOTHING, model, layout)).abs().max() > 1e-4


def test_a_sketch_holds_every_kind_of_layer_and_leaves_the_model_alone():
    model, layout = adopted("qwen3_next", torch.bfloat16)
    layers = model.model.layers
    small = sketch(model, layout)
    assert model.model.layers is layers
    assert model.dtype == torch.bfloat16
    assert small.dtype == torch.float64
    # One dense layer, one with experts, and above it the layer with linear attention.
    assert [type(layer.mlp).__name__ for layer in small.model.layers] == [type(layer.mlp).__name__ for layer in layers]
    assert len(sketch(*adopted("olmoe")).model.layers) == 2
