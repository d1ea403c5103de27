"""What kernels compute, written out: the reference that they are checked against, and their stand-in in tests.

Each is taken in float32, or finer where its arguments are, and rounded once at its end.
"""

from __future__ import annotations

import torch

QueryAndKey = tuple[torch.Tensor, torch.Tensor]
WEIGHT_UNIT = 2.0**-32
"""Weights are summed as integers of this unit: integer sums do not depend on their order, and so not on the GPU."""


def gate(both: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`silu(gate) * up * weight` of rows that hold gate and up side by side."""
    gate, up = _finer(both).chunk(2, dim=-1)
    return (gate * gate.sigmoid() * up * _finer(weight)).to(both.dtype)


def gate_backward(both: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of what `gate` was given."""
    gate, up = _finer(both).chunk(2, dim=-1)
    share, grad = gate.sigmoid(), _finer(grad)
    for_weight = (grad * gate * share * up).sum(dim=-1, keepdim=True)
    grad = grad * _finer(weight)
    slope = share * (1 + gate * (1 - share))
    for_both = torch.cat((grad * up * slope, grad * gate * share), dim=-1)
    return for_both.to(both.dtype), for_weight.to(weight.dtype)


def summed(places: torch.Tensor, back: torch.Tensor, top_k: int) -> torch.Tensor:
    """Each token's sum over its experts, one after another; `back` tells their places."""
    back = back.view(-1, top_k)
    total = _finer(places[back[:, 0]])
    for choice in range(1, top_k):
        total = total + _finer(places[back[:, choice]])
    return total.to(places.dtype)


def spread(tokens: torch.Tensor, back: torch.Tensor, top_k: int) -> torch.Tensor:
    """Each token at each of its places."""
    out = torch.empty(len(back), tokens.shape[1], dtype=tokens.dtype, device=tokens.device)
    out[back] = tokens.repeat_interleave(top_k, dim=0)
    return out


def turn(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> QueryAndKey:
    """What every family's file calls `apply_rotary_pos_emb`; `cos` and `sin` are [rows or 1, length, width]."""
    return _turned(q, cos[:, None], sin[:, None]), _turned(k, cos[:, None], sin[:, None])


def turn_back(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> QueryAndKey:
    """The gradients of what was turned, from those of what came of it."""
    return _turned_back(q, cos[:, None], sin[:, None]), _turned_back(k, cos[:, None], sin[:, None])


def dispatch(index: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of choices sorted by expert: which stands at each place, the place of each, and where each expert's places end.
    A number past the experts stands for none, and behind all."""
    device = index.device
    # As short numbers, since a GPU sorts a few bits at a time.
    expert, order = torch.sort(index.reshape(-1).to(torch.int16), stable=True)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=device))
    every = torch.arange(experts, device=device, dtype=torch.int16)
    return order, back, torch.searchsorted(expert, every, right=True, out_int32=True)


def count(
    index: torch.Tensor, weights: torch.Tensor, counted: torch.Tensor, hits: torch.Tensor, units: torch.Tensor
) -> None:
    """Adds the choices of counted tokens to `hits`, and their weights, as whole numbers of units, to `units`."""
    rows, length = counted.shape
    columns, device = hits.shape[-1] // rows, index.device
    keys = (index.view(rows, length, -1) + columns * torch.arange(rows, device=device).view(-1, 1, 1)).view(-1)
    wanted = counted.unsqueeze(-1).expand(rows, length, index.shape[-1]).reshape(-1)
    hits.scatter_add_(0, keys, wanted.long())
    units.scatter_add_(0, keys, (weights.reshape(-1).double() / WEIGHT_UNIT).round().long() * wanted)


def magnitudes(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each row the sum of absolute values and the root of that of squares. Takes the absolute values in place."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    return rows.abs_().sum(dim=-1, dtype=wide), torch.linalg.vector_norm(rows, dim=-1, dtype=wide)


def _turned(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    fine = _finer(heads)
    return (fine * _finer(cos) + _half_turned(fine) * _finer(sin)).to(heads.dtype)


def _turned_back(grad: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    fine = _finer(grad)
    return (fine * _finer(cos) - _half_turned(fine * _finer(sin))).to(grad.dtype)


def _half_turned(tensor: torch.Tensor) -> torch.Tensor:
    first, second = tensor.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def _finer(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32, or finer where it was finer."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
