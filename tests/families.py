"""Tiny random models of every causal-LM family with experts that the installed transformers can build."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from moe_safety.errors import InputError
from moe_safety.models.inspection.inspect import inspect

Builder = Callable[[], PreTrainedModel]

_LINEAR = ["linear_attention", "full_attention", "linear_attention"]
_SPARSE_AFTER_FIRST = ["dense", "sparse", "sparse"]
_INKLING = {
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 8,
    "sliding_window_size": 8,
    "unpadded_vocab_size": 128,
}

# Whatever of these a family's config knows is set to the value here.
_SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "sliding_window": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # experts
    "num_experts": 8,
    "num_local_experts": 8,
    "n_routed_experts": 8,
    "moe_num_experts": 8,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 2,
    "num_expert_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    # latent, indexed and linear attention
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}

# The families, and what each needs besides.
_OWN: dict[str, dict[str, Any]] = {
    "afmoe": {},
    "aria_text": {},
    "axk1": {},
    "axk2": {},
    "bailing_hybrid": {"layer_types": _LINEAR},
    "beam": {"mlp_layer_types": _SPARSE_AFTER_FIRST},
    "cohere2_moe": {"num_shared_experts": 1},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": None, "topk_group": None},
    "deepseek_v3": {},
    "deepseek_v32": {},
    "deepseek_v4": {"mlp_layer_types": ["hash_moe", "moe", "moe"], "o_lora_rank": 8, "head_dim": 16, "o_groups": 2},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2},
    "dots3_note_text": {
        "shared_experts_intermediate_size": 16,
        "layer_types": ["full_attention", "indexed_attention", "full_attention"],
    },
    "ernie4_5_moe": {},
    "exaone_moe": {},
    "flex_olmo": {},
    "flint": {},
    "gemma4_text": {
        "enable_moe_block": True,
        "top_k_experts": 2,
        "vocab_size_per_layer_input": 128,
        "hidden_size_per_layer_input": 8,
        "global_head_dim": 16,
    },
    "glm4_moe": {},
    "glm4_moe_lite": {},
    "glm_moe_dsa": {},
    "gpt_oss": {},
    "granitemoe": {},
    "granitemoe_swa": {},
    "granitemoehybrid": {
        "layer_types": _LINEAR,
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
        "shared_intermediate_size": 16,
    },
    "granitemoeshared": {"shared_intermediate_size": 16},
    "hunyuan_v1_moe": {},
    "hy_v3": {},
    "hy_v4": {},
    "inkling2_text": _INKLING,
    "inkling_text": _INKLING | {"n_shared_experts": 1, "mlp_layer_types": _SPARSE_AFTER_FIRST},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_hidden_layers": 4},
    "kimi_linear": {"layer_types": _LINEAR, "linear_head_dim": 8, "linear_num_heads": 4},
    "kolibri1": {},
    "laguna": {},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "llama4_text": {"intermediate_size_mlp": 48, "interleave_moe_layer_step": 2, "num_hidden_layers": 4},
    "longcat_flash": {
        "num_layers": 2,
        "ffn_hidden_size": 48,
        "expert_ffn_hidden_size": 16,
        "zero_expert_num": 4,
        "num_key_value_heads": 4,
    },
    "mellum": {},
    "mimo_v2_flash": {},
    "minimax": {},
    "minimax_m2": {},
    "minimax_m3_vl_text": {"shared_intermediate_size": 16, "dense_intermediate_size": 48},
    "mistral4": {"head_dim": 16},
    "mixtral": {},
    "nemotron_h": {
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 2,
        "chunk_size": 8,
        "moe_shared_expert_intermediate_size": 16,
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "moe"],
    },
    "olmoe": {},
    "phimoe": {},
    "qwen2_moe": {"mlp_only_layers": [0]},
    "qwen3_5_moe_text": {"layer_types": _LINEAR},
    "qwen3_moe": {"mlp_only_layers": [1]},
    "qwen3_next": {"layer_types": _LINEAR, "mlp_only_layers": [0]},
    "qwen4_exp_text": {
        "hc_lowrank": 8,
        "hc_count": 2,
        "layer_types": ["linear_attention", "indexed_attention", "linear_attention"],
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
    },
    "solar_open": {},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}


def _config(name: str) -> Any:
    config_class = CONFIG_MAPPING[name]
    known = config_class().to_dict()
    sizes = {key: value for key, value in _SIZES.items() if key in known}
    heads = _SIZES["num_attention_heads"]
    grouped = known.get("num_key_value_heads") not in (None, 1, known.get("num_attention_heads"))
    if "num_key_value_heads" in known and known["num_key_value_heads"] != 1:
        sizes["num_key_value_heads"] = heads // 2 if grouped else heads
    return config_class(**sizes | _OWN.get(name, {}))


def _build(name: str) -> PreTrainedModel:
    # mistral4 has the class without being in the table of the automatic ones.
    class_name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(name, "Mistral4ForCausalLM")
    return getattr(transformers, class_name)(_config(name))


FAMILIES: dict[str, Builder] = {name: partial(_build, name) for name in _OWN}


def build(name: str, seed: int = 0) -> PreTrainedModel:
    """The tiny model of a family: float32, on the CPU, in eval mode, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FAMILIES[name]().float().eval()
        _fill_zeros(model)
    return model


@torch.no_grad()
def _fill_zeros(model: PreTrainedModel) -> None:
    """Some routers start at zero, which sends every token to the same experts."""
    for parameter in model.parameters():
        if parameter.ndim == 2 and not parameter.any():
            parameter.normal_(std=0.02)
    for name, table in model.named_buffers():
        if name.endswith("tid2eid"):  # deepseek_v4: the experts of each token id
            table.copy_(torch.rand(len(table), 8).argsort(dim=1)[:, : table.shape[1]])


# Model types with experts that are not served; `refusal` tells why.
UNSERVED = (
    "aria",
    "dbrx",
    "deepseek_ocr2",
    "diffusion_gemma",
    "doge",
    "ernie4_5_vl_moe",
    "glm4v_moe",
    "glm5_next",
    "jetmoe",
    "mistral_large4",
    "muse_spark",
    "nllb-moe",
    "openai_privacy_filter",
    "qwen3_omni_moe",
    "qwen3_vl_moe",
    "step3p7",
    "switch_transformers",
    "unlimited_ocr",
    "vitpose_backbone",
)


def refusal(name: str) -> str:
    """What the program says to a folder that holds a model of this type."""
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps({"model_type": name}))
        try:
            read = inspect(folder)
        except InputError as error:
            return error.message
    raise AssertionError(f"{name} is served: {read.layout}")
