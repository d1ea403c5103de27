"""What experts do to the widest tensors between their products, in one pass over memory.

Written out, a gate reads and writes them eight times forward and backward.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from moe_safety.models.kernels import card

_SCALES = (1.0, 30.0)
"""Of the numbers that a gate is tried on: among large ones the clamps of some families show."""
_USUAL: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def gated(experts: Any, out: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """What the second product starts from; with the routing weight, where that may stand here."""
    if weight is not None and is_usual_on_card(experts, out):
        return _Gate.apply(out, weight) if torch.is_grad_enabled() else card.kernels(out).gate(out, weight)
    inner = experts._apply_gate(out) if experts.has_gate else experts.act_fn(out)
    return inner if weight is None else inner * weight


def is_usual_on_card(experts: Any, out: torch.Tensor) -> bool:
    """Whether a kernel computes what the gate does."""
    return bool(card.kernels(out)) and _is_usual(experts)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(both, weight)
        return card.kernels(both).gate(both, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both, weight = ctx.saved_tensors
        return card.kernels(both).gate_backward(both, weight, grads[0])


def _is_usual(experts: Any) -> bool:
    """Whether the gate is `silu(gate) * up`: tried once, on a few numbers."""
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
