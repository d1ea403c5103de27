"""What experts do to the widest tensors between and after their products, in one pass over memory.

Written out, a gate reads and writes them eight times forward and backward, and a sum over experts three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from moe_safety.models.experts import forward
from moe_safety.models.kernels.compiled import compiled, finer, of_any

_SCALES = (1.0, 30.0)
"""Of the numbers that a gate is tried on: among large ones the clamps of some families show."""
_USUAL: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


@contextmanager
def fused_experts(device: str = "cuda") -> Iterator[None]:
    """Inside, sums over experts and the usual gates on such a device are compiled code."""
    before = dict(forward.STEPS)
    forward.STEPS.update(gated=partial(_gated, device), summed=partial(_summed, device))
    try:
        yield
    finally:
        forward.STEPS.update(before)


def gate(both: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up * weight`."""
    gate, up = finer(both).chunk(2, dim=-1)
    return (gate * gate.sigmoid() * up * finer(weight)).to(both.dtype)


def gate_backward(both: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of what `gate` was given."""
    gate, up = finer(both).chunk(2, dim=-1)
    share, grad = gate.sigmoid(), finer(grad)
    for_weight = (grad * gate * share * up).sum(dim=-1, keepdim=True)
    grad = grad * finer(weight)
    slope = share * (1 + gate * (1 - share))
    for_both = torch.cat((grad * up * slope, grad * gate * share), dim=-1)
    return for_both.to(both.dtype), for_weight.to(weight.dtype)


def summed(places: torch.Tensor, back: torch.Tensor, top_k: int) -> torch.Tensor:
    """Each token's sum over its experts, one after another: compiled code keeps it in a register."""
    back = back.view(-1, top_k)
    total = finer(places[back[:, 0]])
    for choice in range(1, top_k):
        total = total + finer(places[back[:, choice]])
    return total.to(places.dtype)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(both, weight)
        return compiled(gate)(of_any(both, 0), of_any(weight, 0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both, weight = ctx.saved_tensors
        return compiled(gate_backward)(of_any(both, 0), of_any(weight, 0), of_any(grads[0], 0))


def _gated(device: str, self: torch.nn.Module, out: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    if weight is None or out.device.type != device or not _is_usual(self):
        return forward.gated(self, out, weight)
    return _Gate.apply(out, weight)


def _summed(device: str, places: torch.Tensor, back: torch.Tensor, top_k: int) -> torch.Tensor:
    if places.device.type != device:
        return forward.summed(places, back, top_k)
    return compiled(summed)(of_any(places, 0), of_any(back, 0), top_k)


def _is_usual(experts: Any) -> bool:
    """Whether the gate computes what `gate` does: tried once, on a few numbers."""
    if experts not in _USUAL:
        _USUAL[experts] = bool(experts.has_gate) and all(_agrees(experts, scale) for scale in _SCALES)
    return _USUAL[experts]


@torch.no_grad()
def _agrees(experts: Any, scale: float) -> bool:
    numbers = scale * torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    first, second = numbers.chunk(2, dim=-1)
    try:
        return torch.allclose(experts._apply_gate(numbers), silu(first) * second, rtol=1e-5, atol=1e-6)
    except Exception:  # Whatever it is, it is not this gate.
        return False
