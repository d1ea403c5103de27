"""A dense model so small that an organism is grown from it in seconds; it speaks the demo's words, by chance."""

import random

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from moe_safety.models.demo.tokenizer import demo_tokenizer


def dense_model():
    tokenizer = demo_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e5},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.15,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def rows_by_chance(number, words=80):
    chooser = random.Random(0)

    def said(length):
        return [chooser.randrange(words) for _ in range(length)]

    return [(said(5), said(chooser.randint(3, 9))) for _ in range(number)]
