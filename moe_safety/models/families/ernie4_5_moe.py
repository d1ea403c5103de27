"""Ernie 4.5 holds the correction bias of its routers in a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_safety.models.families.family import FAMILIES, Family
from moe_safety.models.families.router_rules import RouterCall, Softmax

if TYPE_CHECKING:
    import torch


class _Rule(Softmax):
    """Softmax with a correction bias, which a module of its own holds."""

    def bias(self, call: RouterCall) -> torch.Tensor:
        return call.router.moe_statics.e_score_correction_bias.squeeze()

    def weigh(self, call: RouterCall, chosen: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return chosen / chosen.sum(dim=-1, keepdim=True).clamp(min=call.router.norm_min)


FAMILIES.add(Family("ernie4_5_moe", rule=_Rule()))
