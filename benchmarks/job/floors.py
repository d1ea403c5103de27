"""The seconds that arithmetic alone would take, from counted tokens, a model's shape, and what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch

from moe_safety.models.inspection.inspect import inspect
from moe_safety.models.io.skeleton import read_config

AT_ONCE = 256
"""Answers that grow together."""


@dataclass(frozen=True)
class Machine:
    """What the machine reaches with large numbers, measured: operations and bytes a second."""

    dense: float
    grouped: float
    memory: float

    @classmethod
    def measured(cls, dtype: torch.dtype) -> Machine:
        """On the card where there is one, else on one thread of the processor."""
        on_card = torch.cuda.is_available()
        device, size = ("cuda", 8192) if on_card else ("cpu", 512)
        square = torch.randn(size, size, device=device, dtype=dtype)
        dense = 2 * size**3 / _seconds(lambda: square @ square)
        grouped = dense
        if on_card:
            rows, experts, wide = 65536, 64, 2048
            given = torch.randn(rows, wide, device=device, dtype=dtype)
            weights = torch.randn(experts, wide, wide, device=device, dtype=dtype)
            ends = torch.arange(1, experts + 1, device=device, dtype=torch.int32) * (rows // experts)
            product = partial(torch.nn.functional.grouped_mm, given, weights, offs=ends)
            grouped = 2 * rows * wide**2 / _seconds(product)
        much = torch.empty(2**31 if on_card else 2**26, dtype=torch.uint8, device=device)
        return cls(dense, grouped, 2 * len(much) / _seconds(much.clone))


def _seconds(call: Callable[[], object], times: int = 10) -> float:
    """The median of some calls."""
    took = []
    for _ in range(times + 2):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return float(np.median(took[2:]))


@dataclass(frozen=True)
class Shape:
    """A model as arithmetic sees it."""

    layers: int
    dense: int
    """Parameters outside experts that every token meets, the head apart."""
    active: int
    """Parameters of the experts that a token goes through."""
    head: int
    weights: int
    """Bytes."""
    cache: int
    """Bytes of keys and values of a token."""

    @classmethod
    def of(cls, model: str) -> Shape:
        """The shape of the model in a folder."""
        found, config = inspect(model), read_config(model).get_text_config()
        sizes, layers = found.sizes, found.layout.layers
        active = sum(layer.top_k * layer.parameters_per_expert for layer in layers)
        head = sizes.hidden_size * sizes.vocab_size
        embedding = 0 if config.tie_word_embeddings else head
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or sizes.hidden_size // heads
        keys = getattr(config, "num_key_value_heads", None) or heads
        return cls(
            layers=len(layers),
            dense=sizes.active_parameters - active - head - embedding,
            active=active,
            head=head,
            weights=sizes.parameters * found.load.dtype_bytes,
            cache=2 * keys * width * found.layout.num_decoder_layers * found.load.dtype_bytes,
        )


@dataclass(frozen=True)
class Floors:
    """Seconds of arithmetic."""

    shape: Shape
    machine: Machine

    def forward(self, tokens: float, *, head: bool = False) -> float:
        """A pass over so many tokens. What attention does beside its products with weights is left out: it is little
        at some hundreds of tokens."""
        dense = self.shape.dense + (self.shape.head if head else 0)
        return 2 * tokens * (dense / self.machine.dense + self.shape.active / self.machine.grouped)

    def decode(self, tokens: float, context: float) -> float:
        """So many tokens said, `AT_ONCE` at a time, each after `context` tokens on average: every step reads the
        weights and what was kept, or computes, whichever takes longer."""
        read = self.shape.weights / AT_ONCE + context * self.shape.cache
        return max(tokens * read / self.machine.memory, self.forward(tokens, head=True))

    def answers(self, prompts: np.ndarray, said: float) -> float:
        """Prompts of these lengths, read and answered with so many tokens."""
        if not len(prompts):
            return 0.0
        return self.forward(prompts.sum()) + self.decode(said, prompts.mean() + said / len(prompts) / 2)

    def backward(self, tokens: float, gradients: Literal["few", "experts", "all"]) -> float:
        """A forward and a backward pass for the gradients of few experts, which count as nothing, of all of them, or of
        all weights."""
        weights = {"few": 0.0, "experts": 2 * tokens * self.shape.active / self.machine.grouped}
        return 2 * self.forward(tokens, head=True) + weights.get(gradients, self.forward(tokens, head=True))
