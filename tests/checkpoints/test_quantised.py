"""A base that is quantised on disk is compared as transformers loads it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GptOssConfig, Qwen3MoeConfig

from moe_safety.checkpoints import extract_delta, folder, revert_delta, verify
from moe_safety.errors import InputError
from moe_safety.models import inspect_model
from tests.checkpoints.pairs import flip, flip_one_bit, stored

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_experts_per_tok": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 64,
}


def mxfp4(tensors):
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(110, 130, (experts, outputs, inputs // 32), dtype=torch.uint8)
    return {"quant_method": "mxfp4", "modules_to_not_convert": ["model.embed_tokens", "lm_head"]}


def fp8(tensors):
    for name in [name for name in tensors if "experts" in name or ("self_attn" in name and tensors[name].ndim == 2)]:
        rows, columns = tensors[name].shape
        tensors[name] = torch.randn(rows, columns).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = torch.rand(rows // 16, columns // 16)
    return {"quant_method": "fp8", "weight_block_size": [16, 16], "activation_scheme": "dynamic"}


CASES = {
    "mxfp4": (GptOssConfig(**SIZES, num_local_experts=4, pad_token_id=0, eos_token_id=1), mxfp4),
    "fp8": (Qwen3MoeConfig(**SIZES, num_experts=4, moe_intermediate_size=32), fp8),
}


@pytest.fixture(params=CASES)
def pair(request, tmp_path):
    """A quantised base, and what was loaded from it and tuned, saved in full."""
    config, quantise = CASES[request.param]
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(base)
    tensors = load_file(base / "model.safetensors")
    written = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(written | {"quantization_config": quantise(tensors)}))
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    assert model.model.layers[0].mlp.experts.down_proj.dtype == torch.bfloat16
    for path in inspect_model(model).layers[1].parameters:
        flip(model.get_parameter(path)[2])
    # What it was loaded by would be undone in saving, quantisation included.
    model._weight_conversions = None
    model.save_pretrained(tuned)
    return base, tuned


@pytest.mark.parametrize("chunk", [folder.CHUNK, 1 << 8])
def test_only_what_was_tuned_differs(pair, chunk, monkeypatch):
    for module in ("folder", "compare", "quantised"):
        monkeypatch.setattr(f"moe_safety.checkpoints.{module}.CHUNK", chunk)
    base, tuned = pair
    report = verify(base, tuned, [(1, 2)])
    assert (report.violations, report.experts) == ([], [(1, 2)])
    assert report.parameters == sum(tensor.numel() for tensor in stored(tuned).values())
    name = next(name for name in stored(tuned) if "layers.0.mlp.experts" in name and "down_proj" in name)
    flip_one_bit(tuned, name)
    assert [violation.tensor for violation in verify(base, tuned, [(1, 2)]).violations] == [name]


def test_a_delta_leads_back_to_the_dequantised_base(pair, tmp_path):
    base, tuned = pair
    extract_delta(base, tuned, tmp_path / "delta.safetensors")
    revert_delta(tuned, tmp_path / "delta.safetensors", tmp_path / "full")
    assert verify(base, tmp_path / "full", []).changed == 0


def test_other_quantisation_is_refused(pair):
    base, tuned = pair
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"]["quant_method"] = "gptq"
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="base: is quantised by gptq; save it dequantised"):
        verify(base, tuned, [])
