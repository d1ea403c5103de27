"""Tiny checkpoints that are quantised on disk, as the hub has them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GptOssConfig, Qwen3MoeConfig

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_experts_per_tok": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def _mxfp4(tensors):
    for name in [name for name in tensors if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(110, 130, (experts, outputs, inputs // 32), dtype=torch.uint8)
    return {"quant_method": "mxfp4", "modules_to_not_convert": ["model.embed_tokens", "lm_head"]}


def _fp8(tensors):
    for name in [name for name in tensors if "experts" in name or ("self_attn" in name and tensors[name].ndim == 2)]:
        rows, columns = tensors[name].shape
        tensors[name] = torch.randn(rows, columns).to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = torch.rand(rows // 16, columns // 16)
    return {"quant_method": "fp8", "weight_block_size": [16, 16], "activation_scheme": "dynamic"}


KINDS = {
    "mxfp4": (GptOssConfig, {"num_local_experts": 4}, _mxfp4),
    "fp8": (Qwen3MoeConfig, {"num_experts": 4, "moe_intermediate_size": 32}, _fp8),
}


def save_quantised(kind: str, folder: Path, vocab_size: int = 64) -> Path:
    """A checkpoint of a random model in bfloat16, most of it quantised."""
    config, own, quantise = KINDS[kind]
    torch.manual_seed(0)
    sizes = {**SIZES, **own, "vocab_size": vocab_size, "pad_token_id": 0, "eos_token_id": 1}
    AutoModelForCausalLM.from_config(config(**sizes)).bfloat16().save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    change_config(folder, quantization_config=quantise(tensors))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def change_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
