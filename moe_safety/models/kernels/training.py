"""What a training step does on a card in one kernel each: the weight gradients of chosen experts, and the update of
AdamW that lets elements rest. Elsewhere torch does what they do."""

from __future__ import annotations

import math

import torch

from moe_safety.models.kernels import card

_TILE, _DEPTH, _BLOCK = 128, 64, 1024
HALVES = (torch.bfloat16, torch.float16)


def serves(tensor: torch.Tensor, types: tuple[torch.dtype, ...] = (*HALVES, torch.float32)) -> bool:
    """Whether the kernels take such a tensor."""
    return tensor.is_cuda and tensor.dtype in types and card.kernels(tensor) is not None


def chosen_outer(
    left: torch.Tensor,
    right: torch.Tensor,
    rows: tuple[torch.Tensor | None, torch.Tensor | None],
    ends: torch.Tensor,
    experts: torch.Tensor,
    active: torch.Tensor,
) -> torch.Tensor:
    """For each of `experts` the sum of its tokens' outer products, [expert, left width, right width], zeros where it is
    not `active`. Of the places, in the order of experts, those of expert e end at `ends[e]`; where `rows` are given,
    they say which token each place holds. Grouped products would want tokens cut out on the host, which would have to
    wait until the card has counted them."""
    from moe_safety.models.kernels.triton_training import outer

    left, right = left.contiguous(), right.contiguous()
    wide, high = left.shape[1], right.shape[1]
    found = left.new_empty(len(experts), wide, high)
    tiles = math.ceil(wide / _TILE) * math.ceil(high / _TILE)
    spread = [each is not None for each in rows]
    numbers = [ends if each is None else each for each in rows]
    outer[(len(experts) * tiles,)](
        *(left, right, *numbers, ends, experts, active, found, wide, high, wide, high, *spread, _TILE, _DEPTH),
        num_warps=8,
        num_stages=3,
    )
    return found


def lazy_adamw(
    parameter: torch.Tensor,
    grad: torch.Tensor,
    master: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    steps: torch.Tensor,
    rate: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """`lazy_update` of the master, with the parameter that follows it; all are contiguous."""
    from moe_safety.models.kernels.triton_training import lazy_adamw as kernel

    elements = master.numel()
    # In single precision 1 - 0.999 would lose four digits.
    gains = [1 - beta for beta in betas]
    kernel[(math.ceil(elements / _BLOCK),)](
        *(parameter, grad, master, exp_avg, exp_avg_sq, steps, elements),
        *(rate, *gains, *map(math.log, betas), eps, weight_decay, _BLOCK),
    )
