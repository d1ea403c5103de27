"""Routes to some experts before others, and away from some: the same thing from two sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from moe_safety.errors import InputError
from moe_safety.models.families import RouterCall, Rule
from moe_safety.models.layout import MoELayout
from moe_safety.models.routers.hooks import at_routers


class Preference:
    """The experts that come first, bool [MoE layers, experts]."""

    def __init__(self, layout: MoELayout, mask: torch.Tensor) -> None:
        self.layout = layout
        self.set(mask)

    def set(self, mask: torch.Tensor) -> None:
        """Prefers these from now on. Not between a forward pass and its backward pass: checkpointing repeats it."""
        if mask.dtype != torch.bool or tuple(mask.shape) != self.layout.shape:
            raise InputError(f"a mask of bool {list(self.layout.shape)} is needed, not {mask.dtype} {list(mask.shape)}")
        self._rows = [self._row(mask[n, : layer.num_experts].cpu()) for n, layer in enumerate(self.layout.layers)]

    @staticmethod
    def _row(row: torch.Tensor) -> torch.Tensor | None:
        """None where all are equal, so that nothing changes."""
        return row if row.any() and not row.all() else None

    def act(self, position: int, rule: Rule, call: RouterCall) -> torch.Tensor | None:
        """The experts of one call of a layer's router."""
        row = self._rows[position]
        if row is None:
            return None
        if row.device != call.index.device:
            row = self._rows[position] = row.to(call.index.device)
        return _preferred_first(rule.order(call), call.index, row)


def _preferred_first(order: torch.Tensor, own: torch.Tensor, preferred: torch.Tensor) -> torch.Tensor:
    """The first top_k experts by: whether preferred; the router's own choice; the rule's order.

    A token whose own experts are all preferred keeps them slot by slot, whatever ties there are.
    """
    (tokens, experts), top_k = order.shape, own.shape[1]
    places = torch.arange(-top_k, experts, device=order.device)
    place = torch.empty_like(order).scatter_(1, order, places[top_k:].expand(tokens, -1))
    place.scatter_(1, own, places[:top_k].expand(tokens, -1))
    place += (top_k + experts) * ~preferred
    return place.topk(top_k, dim=1, largest=False).indices


@contextmanager
def preferring(model: PreTrainedModel, layout: MoELayout, mask: torch.Tensor) -> Iterator[Preference]:
    """Inside, routers prefer the experts of `mask`, which `set` changes between steps.

    In a layer with at least top_k of them only these are routed to; where there are fewer they come first and the best
    of the rest follow; where there are none nothing changes. The weights are those the family's rule gives to this
    choice: where softmax runs over all experts and is not normalised after, as in OLMoE, they stay the shares of all.
    Limits to groups of experts yield to the preference.
    """
    preference = Preference(layout, mask)
    with at_routers(model, layout, preference.act):
        yield preference


@contextmanager
def avoiding(model: PreTrainedModel, layout: MoELayout, experts: Iterable[tuple[int, int]]) -> Iterator[None]:
    """Inside, no token is routed to these (layer, expert) pairs, unless a layer has fewer than top_k others.

    Each is replaced by the next best; a token that was routed to none of them keeps its choice and weights.
    """
    others = torch.ones(layout.shape, dtype=torch.bool)
    for layer, expert in experts:
        position = layout.position(layer)
        if not 0 <= expert < layout.layers[position].num_experts:
            raise InputError(f"layer {layer} has no expert {expert}")
        others[position, expert] = False
    with preferring(model, layout, others):
        yield
