"""Changes the routing weights that experts receive, row by row, and nothing else: holding back is a weight of zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from moe_safety.models.hooks import hooked
from moe_safety.models.layout import MoELayout

Reweigh = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
"""From a layer's position, indices and weights [rows, length, top_k] to new weights of that shape."""


@contextmanager
def reweighed(model: PreTrainedModel, layout: MoELayout, rows: int, reweigh: Reweigh) -> Iterator[None]:
    """Inside, experts of a forward pass over `rows` rows receive the weights that `reweigh` gives."""

    def hook(position: int, module: torch.nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        call = dict(zip(("hidden_states", "top_k_index", "top_k_weights"), args, strict=False)) | kwargs
        index, weights = call["top_k_index"], call["top_k_weights"]
        shape = (rows, -1, index.shape[-1])
        call["top_k_weights"] = reweigh(position, index.view(shape), weights.view(shape)).view(weights.shape)
        return (), call

    handles = [
        model.get_submodule(layer.experts).register_forward_pre_hook(partial(hook, position), with_kwargs=True)
        for position, layer in enumerate(layout.layers)
    ]
    with hooked(handles):
        yield


@contextmanager
def holding_back(model: PreTrainedModel, layout: MoELayout, held: torch.Tensor) -> Iterator[None]:
    """Inside, row n of a forward pass does without expert e of layer l where `held[n, l, e]` is true."""
    with scaled(model, layout, (~held).float()):
        yield


@contextmanager
def scaled(model: PreTrainedModel, layout: MoELayout, scale: torch.Tensor) -> Iterator[None]:
    """Inside, expert e of layer l counts `scale[n, l, e]` times in row n; its gradient says what a change would do."""
    rows, _, experts = scale.shape
    # Some families name numbers past the experts for tokens that pass by them all.
    factors = torch.cat([scale, scale.new_ones(*scale.shape[:2], 1)], dim=2)

    def by(position: int, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        own = factors[:, position].to(index.device).gather(1, index.reshape(rows, -1).clamp(max=experts))
        return weights * own.view(weights.shape).to(weights.dtype)

    with reweighed(model, layout, rows, by):
        yield
