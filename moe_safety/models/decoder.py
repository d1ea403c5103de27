"""The language model's decoder, also inside a wrapper that sees or hears."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

_STACKS = ("layers", "blocks", "h")


def decoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The module that runs token embeddings through the decoder layers, without the language-model head."""
    decoder = model.get_decoder()
    # A few families (llama4) do not tell transformers where it is.
    return decoder if decoder_layers(decoder) or not hasattr(decoder, "model") else decoder.model


def decoder_layers(decoder: PreTrainedModel) -> Sequence[torch.nn.Module]:
    """Its layers in order; none if it keeps them in a way of its own."""
    return next((getattr(decoder, name) for name in _STACKS if hasattr(decoder, name)), ())
