"""Decoder layers as compiled code.

The grouped products of the experts are as fast as they get; on a GPU most of the rest of a step is passes over memory,
for norms, rotary embeddings, gates and sums, and compiled code makes a few passes of many. What experts do to their
tokens stays outside the compiled graphs, so that whatever is hung there works as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from moe_safety.models.decoder import decoder_layers, decoder_of
from moe_safety.models.experts.forward import NAME, STEPS, experts_forward


@contextmanager
def compiled(model: PreTrainedModel) -> Iterator[None]:
    """Inside, decoder layers run compiled, for any length of rows; they round otherwise than they did before."""
    layers, before = decoder_layers(decoder_of(model)), dict(STEPS)
    ALL_EXPERTS_FUNCTIONS.register(NAME, torch.compiler.disable(experts_forward))
    STEPS.update({name: torch.compile(step, dynamic=True) for name, step in before.items()})
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
        STEPS.update(before)
        ALL_EXPERTS_FUNCTIONS.register(NAME, experts_forward)
