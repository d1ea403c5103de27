"""Gemma 4's routers tell probabilities in place of logits, and scale each expert by what they learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_safety.models.families.family import FAMILIES, Family
from moe_safety.models.families.router_rules import RouterCall, Softmax

if TYPE_CHECKING:
    import torch


class _Rule(Softmax):
    """Softmax, which the router itself tells in place of logits, and a learned scale for each expert."""

    def scores(self, call: RouterCall) -> torch.Tensor:
        return call.logits

    def weigh(self, call: RouterCall, chosen: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return super().weigh(call, chosen, index) * call.router.per_expert_scale[index]


FAMILIES.add(Family("gemma4_text", rule=_Rule(), top_k="top_k_experts"))
