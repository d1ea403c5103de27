"""Every family is built, inspected and run; what the layout says must be what the run shows."""

from __future__ import annotations

import json
from math import prod

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    GraniteMoeHybridConfig,
    LlamaConfig,
    OlmoeConfig,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    SwitchTransformersConfig,
    SwitchTransformersForConditionalGeneration,
)

from moe_safety.errors import InputError
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts.interface import adopt
from moe_safety.models.families import family_of
from tests.families import FAMILIES, build

ROWS, TOKENS = 2, 9


def routing(model, layout: MoELayout, ids: torch.Tensor) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """What each layer's experts receive in one forward pass."""
    seen, hooks = {}, []
    for layer in layout.layers:

        def read(module, args, kwargs, layer=layer):
            seen[layer.index] = family_of(model.config.get_text_config()).routing_of(layer.num_experts, args, kwargs)

        hooks.append(model.get_submodule(layer.experts).register_forward_pre_hook(read, with_kwargs=True))
    with torch.no_grad():
        model(ids)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", FAMILIES)
def test_layout_names_what_is_there(name):
    model = build(name)
    layout = inspect_model(model)
    parameters = dict(model.named_parameters())
    expert_numbers = 0
    for layer in layout.layers:
        assert layer.num_experts == 8
        assert len(layer.parameters) == (4 if layer.has_bias else 2)
        for path, shape in layer.parameters.items():
            assert parameters[path].shape == shape
            assert path.startswith(f"{layer.experts}.")
            assert shape[0] >= layer.num_experts
        assert f".{layer.index}." in f"{layer.name}."
        assert {layer.experts, layer.router} <= {
            path for path, _ in model.get_submodule(layer.name).named_modules(prefix=layer.name)
        }
        for path in layer.shared_experts:
            assert sum(parameter.numel() for parameter in model.get_submodule(path).parameters()) > 0
        expert_numbers += layer.num_experts * layer.parameters_per_expert
    fused = [path for path in parameters if ".experts." in path and "shared" not in path]
    assert sorted(fused) == sorted(path for layer in layout.layers for path in layer.parameters)
    indices = [layer.index for layer in layout.layers]
    assert sorted([*indices, *layout.dense_layers]) == list(range(layout.num_decoder_layers))
    assert [layout.position(index) for index in indices] == list(range(layout.n_moe_layers))
    assert len(layout.experts()) == prod(layout.shape)


@pytest.mark.parametrize("name", FAMILIES)
def test_routing_is_read_where_it_is_used(name):
    """Indices are in range, [batch * tokens, top_k], batch-major: a row's slice is what the row gets alone."""
    model = build(name)
    adopt(model)
    layout = inspect_model(model)
    ids = torch.randint(3, 128, (ROWS, TOKENS), generator=torch.Generator().manual_seed(1))
    together = routing(model, layout, ids)
    alone = [routing(model, layout, ids[row : row + 1]) for row in range(ROWS)]
    choices = set()
    for layer in layout.layers:
        index, weights = together[layer.index]
        assert index.shape == weights.shape == (ROWS * TOKENS, layer.top_k)
        assert index.min() >= 0
        assert index.max() <= layer.num_experts
        for row in range(ROWS):
            part = slice(row * TOKENS, (row + 1) * TOKENS)
            own, own_weights = alone[row][layer.index]
            assert torch.equal(index[part].sort(dim=-1).values, own.sort(dim=-1).values)
            torch.testing.assert_close(
                weights[part].sort(dim=-1).values, own_weights.sort(dim=-1).values, atol=1e-5, rtol=1e-4
            )
        choices |= {tuple(token) for token in index.sort(dim=-1).values.tolist()}
    assert len(choices) > 1, "all tokens go to the same experts: the order of rows was not tested"


def test_enough_families_are_served():
    named = (
        "olmoe mixtral qwen2_moe qwen3_moe deepseek_v2 deepseek_v3 gpt_oss granitemoe phimoe jamba glm4_moe qwen3_next"
    )
    assert set(named.split()) <= set(FAMILIES)
    assert len(FAMILIES) >= 45


def test_layout_survives_json():
    layout = inspect_model(build("gpt_oss"))
    assert MoELayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


def test_layout_is_the_same_on_meta():
    config = build("qwen2_moe").config
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    assert inspect_model(empty) == inspect_model(build("qwen2_moe"))


def test_fingerprint_tells_models_apart_by_what_tables_depend_on():
    def fingerprint(**sizes) -> str:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(OlmoeConfig(num_hidden_layers=2, **sizes))
        return inspect_model(model).fingerprint()

    assert fingerprint() == fingerprint(vocab_size=99)
    others = ({"num_experts": 32}, {"num_experts_per_tok": 2}, {"hidden_size": 64}, {"num_attention_heads": 4})
    assert [fingerprint(**sizes) == fingerprint() for sizes in others] == [False, False, False, True]


def test_only_the_language_model_of_a_wrapper_is_read():
    config = Qwen3VLMoeConfig(text_config=CONFIG_MAPPING["qwen3_vl_moe_text"](num_hidden_layers=2).to_dict())
    with torch.device("meta"):
        layout = inspect_model(Qwen3VLMoeForConditionalGeneration(config))
    assert [layer.index for layer in layout.layers] == [0, 1]
    assert layout.layers[0].experts == "model.language_model.layers.0.mlp.experts"


def test_a_layer_without_experts_has_no_row():
    layout = inspect_model(build("qwen2_moe"))
    assert layout.dense_layers == (0,)
    assert layout.position(1) == 0
    with pytest.raises(InputError, match="layer 0 has no experts"):
        layout.position(0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LlamaConfig(), "llama has no mixture-of-experts layers"),
        (GraniteMoeHybridConfig(num_local_experts=0), "granitemoehybrid has no mixture-of-experts layers"),
        (CONFIG_MAPPING["jetmoe"](), "jetmoe routes its attention through experts too"),
        (CONFIG_MAPPING["doge"](is_moe=True), "doge mixes the router scores of different tokens"),
    ],
)
def test_models_that_are_not_served_are_refused(config, message):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(InputError, match=message):
        inspect_model(model)


def test_encoder_decoder_models_are_refused():
    with torch.device("meta"):
        model = SwitchTransformersForConditionalGeneration(SwitchTransformersConfig())
    with pytest.raises(InputError, match="encoder-decoder"):
        inspect_model(model)


def test_experts_outside_the_interface_are_not_called_missing():
    model = build("mixtral")
    for layer in model.model.layers:
        layer.mlp.experts = OldExperts()
    with pytest.raises(InputError, match="outside the experts interface"):
        inspect_model(model)


class OldExperts(torch.nn.ModuleList):
    """How remote code keeps experts: a list of small networks."""
