"""Rotary embeddings in one pass over memory.

transformers writes them as ten operations on queries and keys, and as many in the backward pass.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from moe_safety.models.kernels.compiled import compiled, finer, of_any

_NAME = "apply_rotary_pos_emb"
QueryAndKey = tuple[torch.Tensor, torch.Tensor]


@contextmanager
def fused_rotary(model: PreTrainedModel, device: str = "cuda") -> Iterator[None]:
    """Inside, queries and keys on such a device are turned by compiled code, where the model's family writes it in the
    usual way."""
    files = {sys.modules[type(module).__module__] for module in model.modules()}
    before = {file: vars(file)[_NAME] for file in files if _NAME in vars(file)}
    usual = {file: function for file, function in before.items() if _is_usual(function)}
    for file, function in usual.items():
        setattr(file, _NAME, partial(_rotary, function, device))
    try:
        yield
    finally:
        for file, function in usual.items():
            setattr(file, _NAME, function)


def turn(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> QueryAndKey:
    """What every family's file calls `apply_rotary_pos_emb`."""
    return _turned(q, cos, sin), _turned(k, cos, sin)


def turn_back(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> QueryAndKey:
    """The gradients of what was turned, from those of what came of it."""
    return _turned_back(q, cos, sin), _turned_back(k, cos, sin)


def _turned(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    fine = finer(heads)
    return (fine * finer(cos) + _half_turned(fine) * finer(sin)).to(heads.dtype)


def _turned_back(grad: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    fine = finer(grad)
    return (fine * finer(cos) - _half_turned(fine * finer(sin))).to(grad.dtype)


def _half_turned(tensor: torch.Tensor) -> torch.Tensor:
    first, second = tensor.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: torch.Tensor) -> QueryAndKey:
        ctx.save_for_backward(*given[2:])
        return compiled(turn)(*_of_any_length(*given))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *compiled(turn_back)(*_of_any_length(*grads, *ctx.saved_tensors)), None, None


def _of_any_length(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Whatever the rows, and the tokens in them."""
    return [of_any(tensor, 0, 2) for tensor in tensors]


def _rotary(function: Callable[..., QueryAndKey], device: str, *given: torch.Tensor, **named: Any) -> QueryAndKey:
    if named or len(given) != 4 or not _fits(device, *given):
        return function(*given, **named)
    q, k, cos, sin = given
    return _Turn.apply(q, k, cos.unsqueeze(1), sin.unsqueeze(1))


def _fits(device: str, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> bool:
    """Some families turn a part of each head, and some in another type."""
    alike = cos.ndim == 3 and cos.shape[-1] == q.shape[-1] and cos.dtype == q.dtype
    return alike and q.device.type == device and not cos.requires_grad


@torch.no_grad()
def _is_usual(function: Callable[..., QueryAndKey]) -> bool:
    """Whether it computes the very same: tried on a few numbers."""
    chance = torch.Generator().manual_seed(0)
    q, k, cos, sin = (
        torch.randn(shape, generator=chance) for shape in ((1, 2, 3, 8), (1, 1, 3, 8), (1, 3, 8), (1, 3, 8))
    )
    try:
        own = function(q, k, cos, sin)
    except Exception:  # Whatever it is, it is not this function.
        return False
    here = turn(q, k, cos.unsqueeze(1), sin.unsqueeze(1))
    return isinstance(own, tuple) and len(own) == 2 and all(map(torch.allclose, own, here))
