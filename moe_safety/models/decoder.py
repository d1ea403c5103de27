"""The language model's decoder, also inside a wrapper that sees or hears."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from moe_safety.models.families import declared


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The module that runs token embeddings through the decoder layers, without the language-model head."""
    decoder = model.get_decoder()
    further = declared(decoder.config.model_type).decoder
    return getattr(decoder, further, decoder) if further else decoder


def decoder_layers(decoder: PreTrainedModel) -> Sequence[torch.nn.Module]:
    """Its layers in order; none if it keeps them in a way of its own."""
    names = declared(decoder.config.model_type).layers
    return next((getattr(decoder, name) for name in names if hasattr(decoder, name)), ())
