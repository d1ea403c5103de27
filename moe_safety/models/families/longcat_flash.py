"""LongCat-Flash adds identity experts, which hold no weights: indices past the real experts return their input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moe_safety.models.families.family import FAMILIES, AdoptedExperts, Adoption, Family

if TYPE_CHECKING:
    import torch


class _Experts(AdoptedExperts):
    num_routed_experts: int
    _parameters: dict[str, torch.Tensor]

    @property
    def num_experts(self) -> int:
        return self.num_routed_experts

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        identity = top_k_index >= self.num_routed_experts
        index, weights = top_k_index.masked_fill(identity, 0), top_k_weights.masked_fill(identity, 0)
        passed = hidden_states * (top_k_weights * identity).sum(dim=-1, keepdim=True)
        with self._real_experts_only():
            return self.call(hidden_states, index, weights) + passed.to(hidden_states.dtype)

    @contextmanager
    def _real_experts_only(self) -> Iterator[None]:
        """The parameter has rows for the identity experts too, which nothing reads; during the call it is cut."""
        vars(self)["gate_up_proj"] = self._parameters["gate_up_proj"][: self.num_routed_experts]
        try:
            yield
        finally:
            del vars(self)["gate_up_proj"]


FAMILIES.add(
    Family(
        "longcat_flash",
        adoption=Adoption("LongcatFlashExperts", _Experts),
        is_no_expert=lambda index, weights, num_experts: index >= num_experts,
    )
)
