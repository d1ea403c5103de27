"""LongCat-Flash adds identity experts, which hold no weights: indices past the real experts return their input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from moe_safety.models.families.base import AdoptedExperts, Family

if TYPE_CHECKING:
    from moe_safety.models.layout import MoELayer


class _Experts(AdoptedExperts):
    num_routed_experts: int
    _parameters: dict[str, torch.Tensor]

    @property
    def num_experts(self) -> int:
        return self.num_routed_experts

    @property
    def gate_up_proj(self) -> torch.Tensor:
        # The parameter has rows for the identity experts too; nothing reads them.
        return self._parameters["gate_up_proj"][: self.num_routed_experts]

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        identity = top_k_index >= self.num_routed_experts
        index, weights = top_k_index.masked_fill(identity, 0), top_k_weights.masked_fill(identity, 0)
        passed = hidden_states * (top_k_weights * identity).sum(dim=-1, keepdim=True)
        return self.call(hidden_states, index, weights) + passed.to(hidden_states.dtype)


class LongcatFlash(Family):
    experts_class = "LongcatFlashExperts"
    adopted_experts = _Experts

    def routing_of(
        self, layer: MoELayer, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A token that goes to an identity expert goes to no expert."""
        index, weights = super().routing_of(layer, args, kwargs)
        return index.clamp(max=layer.num_experts), weights
