"""Puts earlier choices of experts in the place of the routers' own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from moe_safety.models.families import RouterCall, Rule
from moe_safety.models.layout import MoELayout
from moe_safety.models.routers.hooks import at_routers

Choices = torch.Tensor | Sequence[torch.Tensor]
"""Indices [MoE layers, tokens, top_k] of one forward pass, rows batch-major, padding included."""


class Replay:
    """The choices of the coming forward pass."""

    def __init__(self, choices: Choices) -> None:
        self.set(choices)

    def set(self, choices: Choices) -> None:
        """Replays these from now on. Not between a forward pass and its backward pass: checkpointing repeats it."""
        self._choices = choices

    def act(self, position: int, rule: Rule, call: RouterCall) -> torch.Tensor:
        """The experts of one call of a layer's router."""
        index = self._choices[position].to(call.index)
        if index.shape != call.index.shape:
            raise ValueError(f"choices of {list(index.shape)} replayed where {list(call.index.shape)} are made")
        return index


@contextmanager
def replaying(model: PreTrainedModel, layout: MoELayout, choices: Choices) -> Iterator[Replay]:
    """Inside, tokens go to the experts of `choices`; their weights come from the routers as they stand now."""
    replay = Replay(choices)
    with at_routers(model, layout, replay.act):
        yield replay
