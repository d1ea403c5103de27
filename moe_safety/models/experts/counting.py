"""Counts which experts the tokens of a forward pass are routed to, as the experts themselves receive them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from moe_safety import checks
from moe_safety.models.decoder import decoder_of
from moe_safety.models.experts.evaluating import evaluating
from moe_safety.models.experts.interface import adopted
from moe_safety.models.families import family_of
from moe_safety.models.hooks import hooked
from moe_safety.models.kernels import card, formulas
from moe_safety.models.kernels.formulas import WEIGHT_UNIT
from moe_safety.models.layout import MoELayer, MoELayout, inspect_model
from moe_safety.models.text.answer_losses import Packed


class Counts:
    """What `counting` fills: per row of the forward pass, MoE layer and expert."""

    def __init__(self, layout: MoELayout, counted: torch.Tensor) -> None:
        self.layout, self.counted = layout, counted
        # One column more, for tokens that go to no expert.
        shape = (layout.n_moe_layers, counted.shape[0] * (layout.max_experts + 1))
        self.hits = torch.zeros(shape, dtype=torch.int64, device=counted.device)
        self.units = torch.zeros_like(self.hits)

    def add(self, position: int, index: torch.Tensor, weights: torch.Tensor) -> None:
        """One layer's routing; rows are batch-major, so token n stands in row n // length."""
        add = (card.kernels(weights) or formulas).count
        add(index, weights, self.counted, self.hits[position], self.units[position])

    def counts(self) -> torch.Tensor:
        """int64 [rows, MoE layers, experts]: counted tokens that are routed to the expert."""
        return self._by_row(self.hits)

    def weights(self) -> torch.Tensor:
        """float32, same shape: the routing weights of these tokens, summed."""
        return (self._by_row(self.units).double() * WEIGHT_UNIT).float()

    def _by_row(self, flat: torch.Tensor) -> torch.Tensor:
        rows, _ = self.counted.shape
        return (
            flat.view(self.layout.n_moe_layers, rows, -1)[:, :, : self.layout.max_experts].transpose(0, 1).contiguous()
        )


@contextmanager
def at_experts(
    model: PreTrainedModel, layout: MoELayout, act: Callable[[int, torch.Tensor, torch.Tensor], None]
) -> Iterator[None]:
    """Inside, a forward pass tells of each MoE layer its position, and the indices and weights its experts receive."""
    family = family_of(decoder_of(model).config)

    def hook(position: int, layer: MoELayer, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        act(position, *family.routing_of(layer.num_experts, args, kwargs))

    handles = [
        model.get_submodule(layer.experts).register_forward_pre_hook(partial(hook, position, layer), with_kwargs=True)
        for position, layer in enumerate(layout.layers)
    ]
    with hooked(handles):
        yield


@contextmanager
def counting(
    model: PreTrainedModel, counted: torch.Tensor, layout: MoELayout | None = None, packed: Packed | None = None
) -> Iterator[Counts]:
    """Inside, a forward pass over rows shaped like `counted` (bool, [rows, length]) adds to the yielded counts; rows
    that are packed for the pass are counted as if they were padded on the right."""
    layout = layout or inspect_model(model)
    counts = Counts(layout, counted)
    places = packed.places(counted.shape[1]) if packed else None

    def count(position: int, index: torch.Tensor, weights: torch.Tensor) -> None:
        if places is not None:
            index, weights = (each.flatten(0, -2).index_select(0, places) for each in (index, weights))
        counts.add(position, index.to(counted.device), weights.to(counted.device))

    with at_experts(model, layout, count):
        yield counts


@contextmanager
def choices(model: PreTrainedModel, layout: MoELayout) -> Iterator[list[torch.Tensor]]:
    """Inside, a forward pass leaves the experts of each token, [tokens, top_k] a layer, in the order of the pass. An
    index of the layer's number of experts is no expert."""
    left: list[torch.Tensor] = []
    with at_experts(model, layout, lambda position, index, weights: left.append(index)):
        yield left


class _Enough(Exception):
    """Ends a forward pass whose rest nobody needs."""


@contextmanager
def stopping_after_routing(model: PreTrainedModel, layout: MoELayout) -> Iterator[None]:
    """Inside, a forward pass ends once the last MoE layer has been routed: before its experts, and before all above."""

    def stop(module: torch.nn.Module, args: Any) -> None:
        raise _Enough

    with suppress(_Enough), model.get_submodule(layout.layers[-1].experts).register_forward_pre_hook(stop):
        yield


@torch.inference_mode()
def count_routing(
    model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor, counted: torch.Tensor
) -> torch.Tensor:
    """The routing counts of every row: how many of its `counted` tokens are routed to each expert.

    `input_ids`, `attention_mask` and `counted` are [rows, length]; `counted` is true for tokens to count. Padding may
    stand on either side and is never counted, whatever `counted` says of it. Returns int64 [rows, MoE layers, experts].

    >>> ids, mask = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    >>> counts = count_routing(model, ids, mask, counted=mask)
    >>> counts.shape, counts.sum(dim=2).tolist()  # a token goes to two experts of each layer
    (torch.Size([2, 2, 8]), [[8, 8], [6, 6]])
    """
    checks.a_model(model)
    checks.token_ids(input_ids, "input_ids", model)
    checks.mask(attention_mask, "attention_mask", input_ids)
    checks.mask(counted, "counted", input_ids)
    with adopted(model):
        return run_counting(model, input_ids, attention_mask, counted.bool() & attention_mask.bool()).counts()


@torch.inference_mode()
def run_counting(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    counted: torch.Tensor,
    layout: MoELayout | None = None,
    packed: Packed | None = None,
) -> Counts:
    """The same with routing weights, for callers that count no padding; those that pad on the right, or pack rows into
    one line, need no mask."""
    layout = layout or inspect_model(model)
    where = packed.inputs if packed else _where(attention_mask)
    with evaluating(model), counting(model, counted, layout, packed) as counts, stopping_after_routing(model, layout):
        decoder_of(model)(input_ids=input_ids, use_cache=False, **where)
    return counts


def _where(attention_mask: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Padding on the right is invisible to a causal model, which is then spared the mask and its slower attention."""
    if attention_mask is None or not (attention_mask.diff(dim=1) > 0).any():
        return {}
    positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
    return {"attention_mask": attention_mask, "position_ids": positions}
