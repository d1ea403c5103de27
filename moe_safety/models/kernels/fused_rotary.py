"""Rotary embeddings in one pass over memory.

transformers writes them as ten operations on queries and keys, and as many in the backward pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from moe_safety.models.experts.interface import mix_in
from moe_safety.models.kernels import card, formulas
from moe_safety.models.kernels.formulas import QueryAndKey

_NAME = "apply_rotary_pos_emb"


class FusedRotary(torch.nn.Module):
    """Mixed into an attention's own class: while it runs, its file's function is ours, which leaves to the other what
    it cannot do."""

    def forward(self, *given: Any, **named: Any) -> Any:
        """What the attention's own class computes."""
        bases = type(self).__mro__
        names = _names_of(bases[bases.index(FusedRotary) + 1])
        before = names[_NAME]
        names[_NAME] = partial(_rotary, before)
        try:
            return super().forward(*given, **named)
        finally:
            names[_NAME] = before


def fuse_rotary(model: PreTrainedModel) -> PreTrainedModel:
    """Lets every attention of `model` turn queries and keys by a kernel where it can, if its family does so in the
    usual way."""
    for module in model.modules():
        names = _names_of(module.__class__)
        if not isinstance(module, FusedRotary) and names is not None and is_usual(names[_NAME]):
            mix_in(module, FusedRotary)
    return model


@cache
def _names_of(attention: Any) -> Any:
    """Where its forward pass looks names up, if the function is one of them."""
    forward: Any = inspect.unwrap(attention.forward)
    code = getattr(forward, "__code__", None)
    return forward.__globals__ if code and _NAME in code.co_names else None


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: torch.Tensor) -> QueryAndKey:
        ctx.save_for_backward(*given[2:])
        return card.kernels(given[0]).turn(*given)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *card.kernels(grads[0]).turn_back(*grads, *ctx.saved_tensors), None, None


def _rotary(function: Callable[..., QueryAndKey], *given: torch.Tensor, **named: Any) -> QueryAndKey:
    kernels = card.kernels(given[0])
    if named or len(given) != 4 or not kernels or not _fits(*given):
        return function(*given, **named)
    return _Turn.apply(*given) if torch.is_grad_enabled() else kernels.turn(*given)


def _fits(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> bool:
    """Some families turn a part of each head, and some in another type."""
    alike = cos.ndim == 3 and cos.shape[-1] == q.shape[-1] and cos.dtype == q.dtype
    return alike and len(cos) in (1, len(q)) and not cos.requires_grad


@cache
@torch.no_grad()
def is_usual(function: Callable[..., QueryAndKey]) -> bool:
    """Whether it computes the very same: tried on a few numbers."""
    chance = torch.Generator().manual_seed(0)
    q, k, cos, sin = (
        torch.randn(shape, generator=chance) for shape in ((1, 2, 3, 8), (1, 1, 3, 8), (1, 3, 8), (1, 3, 8))
    )
    try:
        own = function(q, k, cos, sin)
    except Exception:  # Whatever it is, it is not this function.
        return False
    return isinstance(own, tuple) and len(own) == 2 and all(map(torch.allclose, own, formulas.turn(q, k, cos, sin)))
