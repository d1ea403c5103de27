"""What routers said in a forward pass: which experts they chose, and how likely each expert was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from moe_safety.models.decoder import decoder_of
from moe_safety.models.families import RouterCall, Rule
from moe_safety.models.layout import MoELayout
from moe_safety.models.routers.hooks import at_routers


class Seen:
    """What the last forward pass left, one tensor for each MoE layer in order; rows are tokens, batch-major."""

    def __init__(self) -> None:
        self.layers: list[torch.Tensor] = []
        self._open = False

    def stack(self) -> torch.Tensor:
        """All layers as one tensor, for models whose layers are alike."""
        return torch.stack([layer.to(self.layers[0].device) for layer in self.layers])

    def add(self, found: torch.Tensor) -> None:
        """Checkpointing runs layers again in the backward pass, when nothing is open."""
        if self._open:
            self.layers.append(found)

    def begin(self, *_: Any) -> None:
        """Forgets what was recorded, and records from now on."""
        self.layers, self._open = [], True

    def end(self, *_: Any) -> None:
        """Records no more."""
        self._open = False


@contextmanager
def _seeing(
    model: PreTrainedModel, layout: MoELayout, what: Callable[[Rule, RouterCall], torch.Tensor]
) -> Iterator[Seen]:
    seen = Seen()

    def act(position: int, rule: Rule, call: RouterCall) -> None:
        seen.add(what(rule, call))

    decoder = decoder_of(model)
    begin, end = (
        decoder.register_forward_pre_hook(seen.begin),
        decoder.register_forward_hook(seen.end, always_call=True),
    )
    with begin, end, at_routers(model, layout, act):
        yield seen


@contextmanager
def recording(model: PreTrainedModel, layout: MoELayout) -> Iterator[Seen]:
    """Inside, each forward pass leaves the experts it chose, [tokens, top_k] a layer, for `replaying`."""
    with _seeing(model, layout, lambda rule, call: call.index) as seen:
        yield seen


@contextmanager
def probabilities(model: PreTrainedModel, layout: MoELayout) -> Iterator[Seen]:
    """Inside, each forward pass leaves the routers' distributions, float32 [tokens, experts] a layer, with gradient
    where there is one."""
    with _seeing(model, layout, lambda rule, call: rule.probabilities(call)) as seen:
        yield seen
