"""The hidden states from which answers come."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from moe_safety.errors import RunError
from moe_safety.models.decoder import decoder_layers, decoder_of
from moe_safety.models.text.answer_losses import Rows
from moe_safety.models.transfers import sent


@dataclass(frozen=True)
class States:
    """What decoder layers give where a token of an answer is predicted."""

    layers: Sequence[torch.Tensor]
    """Of each layer [tokens, width], the tokens in order."""
    row: torch.Tensor
    """The row that each token stands in."""


def answer_states(model: PreTrainedModel, rows: Rows) -> States:
    """Runs the model, but for its head, on rows."""
    decoder, found = decoder_of(model), list[torch.Tensor]()
    if not decoder_layers(decoder):
        raise RunError(f"{decoder.config.model_type} keeps its layers in a way of its own, so none can be listened to")
    place, _, row = (each if each.is_cuda else sent(each, rows.input_ids.device) for each in rows.answers())

    def listen(module: torch.nn.Module, given: Any, out: Any) -> None:
        found.append(out[0] if isinstance(out, tuple) else out)

    with ExitStack() as stack:
        for layer in decoder_layers(decoder):
            stack.callback(layer.register_forward_hook(listen).remove)
        decoder(**rows.inputs, use_cache=False)
    # Taken here: an operation more in a layer that is checkpointed would be missing when it runs again.
    return States([each.flatten(0, 1).index_select(0, place) for each in found], row)
