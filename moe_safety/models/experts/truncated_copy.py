"""A small, precise stand-in for a model: its first layers in float64, as far up as every kind of layer has been met.

Whether two ways of computing are the same follows from how layers are made, not from how many there are. Through all
layers of a model in bfloat16 rounding grows until right and wrong cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from typing import Any

import torch
from transformers import PreTrainedModel

from moe_safety.models.decoder import decoder_layers, decoder_of
from moe_safety.models.layout import MoELayout


def sketch(model: PreTrainedModel, layout: MoELayout) -> PreTrainedModel:
    """A copy, with weights of its own."""
    decoder = decoder_of(model)
    layers = decoder_layers(decoder)
    name = next(name for name, child in decoder.named_children() if child is layers)
    kinds = [_kind(decoder.config, index, block) for index, block in enumerate(layers)]
    setattr(decoder, name, torch.nn.ModuleList(layers[: _enough(kinds, layout.layers[0].index)]))
    try:
        return deepcopy(model).double()
    finally:
        setattr(decoder, name, layers)


def _enough(kinds: list[Hashable], first: int) -> int:
    """Where to stop: every kind of layer that stands above the first MoE layer has been met above it."""
    above = kinds[first + 1 :]
    return first + 1 + max((above.index(kind) + 1 for kind in above), default=0)


def _kind(config: Any, index: int, block: torch.nn.Module) -> Hashable:
    named = getattr(config, "layer_types", None)
    return named[index] if named else None, *(type(module) for module in block.modules())
