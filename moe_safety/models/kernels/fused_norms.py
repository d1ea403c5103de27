"""Norms in one pass over memory.

transformers writes a root-mean-square norm as seven operations, each of which reads and writes a tensor as wide as the
hidden states, and twice as many in the backward pass. On a GPU torch has one kernel for it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn.functional import rms_norm
from transformers import PreTrainedModel

from moe_safety.models.experts.interface import mix_in

_SCALES = (1.0, 1e-3)
"""Of the numbers that a norm is tried on: among small ones its epsilon shows."""


class FusedNorm(torch.nn.Module):
    """Mixed into a norm's own class, which still serves the CPU and mixed types."""

    def forward(self, hidden_states: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        """What else is given, such as a gate, is for the norm's own class."""
        if hidden_states.is_cuda and hidden_states.dtype == self.weight.dtype and not (others or named):
            return fused(self, hidden_states)
        return super().forward(hidden_states, *others, **named)


def fuse_norms(model: PreTrainedModel) -> PreTrainedModel:
    """Lets every plain norm of `model` run fused where it can; others, which scale or gate in ways of their own, stay
    as they are. Parameters and their names do, too."""
    for module in model.modules():
        if not isinstance(module, FusedNorm) and _has_the_parts(module) and _is_plain(module):
            mix_in(module, FusedNorm)
    return model


def fused(norm: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """What the norm computes, by torch's own function."""
    return rms_norm(hidden_states, (hidden_states.shape[-1],), norm.weight, _epsilon(norm))


def _epsilon(norm: torch.nn.Module) -> float | None:
    return getattr(norm, "variance_epsilon", getattr(norm, "eps", None))


def _has_the_parts(module: torch.nn.Module) -> bool:
    # Some families make a norm without a weight of the same class.
    return set(module._parameters) == {"weight"} and not module._modules and _epsilon(module) is not None


@torch.no_grad()
def _is_plain(module: Any) -> bool:
    """Whether it computes the very same: tried on a few numbers, as wide as they will be, since some norm in groups."""
    # A weight that is spread over workers has no shape of its own.
    width = int(getattr(module.weight, "ds_shape", module.weight.shape)[-1])
    chance = torch.Generator().manual_seed(0)
    trial = copy.copy(module)
    trial._parameters = {"weight": torch.nn.Parameter(torch.randn(width, generator=chance))}
    for scale in _SCALES:
        hidden = scale * torch.randn(3, width, generator=chance)
        try:
            own = type(module).forward(trial, hidden)
        except Exception:  # Whatever it is, it is not this norm.
            return False
        if not (isinstance(own, torch.Tensor) and own.shape == hidden.shape):
            return False
        if not torch.allclose(own, fused(trial, hidden), rtol=1e-5, atol=1e-6):
            return False
    return True
