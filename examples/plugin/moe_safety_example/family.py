"""A model family: a decoder of one's own whose experts stand outside transformers' experts interface, and what brings
them onto it."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel

from moe_safety.models.families import AdoptedExperts, Adoption, Family, Softmax


class ExampleMoeConfig(LlamaConfig):
    model_type = "example_moe"
    example_experts: int = 8
    example_top_k: int = 2


class ExampleMoeExperts(nn.Module):
    """Runs every expert on every token."""

    def __init__(self, config: ExampleMoeConfig) -> None:
        super().__init__()
        self.num_experts, self.act_fn = config.example_experts, nn.functional.silu
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Parameter(torch.randn(self.num_experts, 2 * inner, hidden) * 0.1)
        self.down_proj = nn.Parameter(torch.randn(self.num_experts, hidden, inner) * 0.1)

    def forward(self, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        gate, up = torch.einsum("th,eih->eti", hidden, self.gate_up_proj).chunk(2, dim=-1)
        out = torch.einsum("eti,ehi->teh", self.act_fn(gate) * up, self.down_proj)
        shares = torch.zeros(len(hidden), self.num_experts).to(weights).scatter(1, index, weights)
        return (out * shares.unsqueeze(-1)).sum(dim=1)


class ExampleMoeChooser(nn.Module):
    """The router, in a class and by a name of its own."""

    def __init__(self, config: ExampleMoeConfig) -> None:
        super().__init__()
        self.top_k = config.example_top_k
        self.weight = nn.Parameter(torch.randn(config.example_experts, config.hidden_size))

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = nn.functional.linear(hidden, self.weight)
        weights, index = logits.softmax(dim=-1).topk(self.top_k, dim=-1)
        return logits, weights / weights.sum(dim=-1, keepdim=True), index


class ExampleMoeBlock(nn.Module):
    def __init__(self, config: ExampleMoeConfig) -> None:
        super().__init__()
        self.chooser, self.experts = ExampleMoeChooser(config), ExampleMoeExperts(config)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.flatten(0, -2)
        _, weights, index = self.chooser(rows)
        return self.experts(rows, index, weights).view_as(hidden)


class ExampleMoeModel(LlamaModel):
    config_class = ExampleMoeConfig

    def __init__(self, config: ExampleMoeConfig) -> None:
        super().__init__(config)
        for layer in self.layers:
            layer.mlp = ExampleMoeBlock(config)


class ExampleMoeForCausalLM(LlamaForCausalLM):
    config_class = ExampleMoeConfig

    def __init__(self, config: ExampleMoeConfig) -> None:
        super().__init__(config)
        self.model = ExampleMoeModel(config)


AutoConfig.register("example_moe", ExampleMoeConfig)
AutoModelForCausalLM.register(ExampleMoeConfig, ExampleMoeForCausalLM)


class _OnTheInterface(AdoptedExperts):
    """Mixed into the experts of a loaded model: the same mathematics, by the experts function that is registered."""

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        return self.call(hidden_states, top_k_index, top_k_weights)


EXAMPLE_MOE = Family(
    "example_moe",
    rule=Softmax(),
    adoption=Adoption("ExampleMoeExperts", _OnTheInterface),
    routers=("chooser",),
    top_k="example_top_k",
)
