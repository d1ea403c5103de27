"""Llama 4 runs every expert on every token, scaled by the router's score; adopted, only the chosen ones run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moe_safety.models.families.family import FAMILIES, AdoptedExperts, Adoption, Family

if TYPE_CHECKING:
    import torch


class _Experts(AdoptedExperts):
    is_transposed = True

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        # The weight scales an expert's input, not its output, so each choice of a token is a row of its own.
        rows = (hidden_states.unsqueeze(1) * top_k_weights.unsqueeze(-1)).flatten(0, 1)
        out = self.call(rows, top_k_index.reshape(-1, 1), rows.new_ones(len(rows), 1))
        return out.view(*top_k_index.shape, out.shape[-1]).sum(dim=1)


class _Block:
    router: Any
    experts: Any
    shared_expert: Any
    top_k: int
    hidden_dim: int

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_states = hidden_states.reshape(-1, self.hidden_dim)
        scores, logits = self.router(hidden_states)
        index = logits.topk(self.top_k, dim=1).indices
        routed = self.experts(hidden_states, index, scores.gather(1, index))
        return self.shared_expert(hidden_states) + routed, logits


FAMILIES.add(Family("llama4_text", adoption=Adoption("Llama4TextExperts", _Experts, _Block), decoder="model"))
