"""Small models of three families, of about a million parameters each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from transformers import (
    AutoModelForCausalLM,
    MixtralConfig,
    OlmoeConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3MoeConfig,
)

Shape = Literal["olmoe", "mixtral", "qwen3_moe"]

_COMMON: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_experts_per_tok": 4,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    # 1 / sqrt(hidden_size): at the usual 0.02 so narrow a model takes long to find its feet.
    "initializer_range": 0.1,
}

_CONFIGS: dict[Shape, Callable[..., PreTrainedConfig]] = {
    "olmoe": lambda **sizes: OlmoeConfig(num_experts=16, intermediate_size=48, **sizes),
    "mixtral": lambda **sizes: MixtralConfig(num_local_experts=16, intermediate_size=48, **sizes),
    "qwen3_moe": lambda **sizes: Qwen3MoeConfig(
        num_experts=16, moe_intermediate_size=48, intermediate_size=192, head_dim=24, norm_topk_prob=True, **sizes
    ),
}

SHAPES: tuple[Shape, ...] = tuple(_CONFIGS)


def new_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """An untrained model of this shape, the same for the same seed."""
    config = _CONFIGS[shape](
        **_COMMON,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
