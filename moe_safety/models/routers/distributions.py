"""How far routing has moved: between distributions over experts, and between choices of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

KL = Literal["forward", "reverse", "symmetric"]


def summed_distribution(probabilities: Sequence[torch.Tensor], counted: torch.Tensor) -> torch.Tensor:
    """float32 [MoE layers, experts of the largest]: each layer's probabilities summed over counted tokens.

    `counted` is bool, one for each token of the forward pass, in any shape. Sums of micro-batches add up.
    """
    widest = max(layer.shape[1] for layer in probabilities)
    sums = [
        torch.where(counted.reshape(-1, 1).to(layer.device), layer, 0).sum(dim=0).to(probabilities[0].device)
        for layer in probabilities
    ]
    return torch.stack([torch.nn.functional.pad(each, (0, widest - len(each))) for each in sums])


def mean_distribution(probabilities: Sequence[torch.Tensor], counted: torch.Tensor) -> torch.Tensor:
    """Each layer's mean distribution over counted tokens, of the same shape."""
    return summed_distribution(probabilities, counted) / counted.sum().to(probabilities[0].device)


def divergence(target: torch.Tensor, now: torch.Tensor, form: KL) -> torch.Tensor:
    """The KL divergence along the last axis: `forward` is KL(target || now), `reverse` the other way, `symmetric` the
    mean of both. On mean distributions it gives one number for each layer, on probabilities one for each token."""
    if form == "forward":
        return _kl(target, now)
    if form == "reverse":
        return _kl(now, target)
    return (_kl(target, now) + _kl(now, target)) / 2


def top_k_overlap(before: torch.Tensor, after: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """float32 [MoE layers]: the share of a token's experts that are the same in both choices, averaged over counted
    tokens. Choices are indices [MoE layers, tokens, top_k] on the same tokens."""
    kept = (before.unsqueeze(-1) == after.unsqueeze(-2)).any(dim=-1).float().mean(dim=-1)
    return kept[:, counted.reshape(-1)].mean(dim=-1)


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    # An expert of probability zero adds nothing, and leaves no infinity in the gradient.
    tiny = torch.finfo(p.dtype).tiny
    return (p * (p.clamp(min=tiny).log() - q.clamp(min=tiny).log())).sum(dim=-1)
