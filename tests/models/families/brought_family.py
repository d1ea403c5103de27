"""A model family as another package would bring it: experts outside the interface, names of its own."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel

from moe_safety.models.families import AdoptedExperts, Adoption, Family, Softmax


class WanderConfig(LlamaConfig):
    model_type = "wander"


class WanderExperts(torch.nn.Module):
    """Runs every expert on every token."""

    def __init__(self, hidden, inner, experts):
        super().__init__()
        self.num_experts, self.act_fn = experts, torch.nn.functional.silu
        self.gate_up_proj = torch.nn.Parameter(torch.randn(experts, 2 * inner, hidden) * 0.1)
        self.down_proj = torch.nn.Parameter(torch.randn(experts, hidden, inner) * 0.1)

    def forward(self, hidden, index, weights):
        gate, up = torch.einsum("th,eih->eti", hidden, self.gate_up_proj).chunk(2, dim=-1)
        out = torch.einsum("eti,ehi->teh", self.act_fn(gate) * up, self.down_proj)
        shares = torch.zeros(len(hidden), self.num_experts).scatter(1, index, weights)
        return (out * shares.unsqueeze(-1)).sum(dim=1)


class WanderChooser(torch.nn.Module):
    def __init__(self, hidden, experts):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(experts, hidden))

    def forward(self, hidden):
        logits = torch.nn.functional.linear(hidden, self.weight)
        weights, index = logits.softmax(dim=-1).topk(2, dim=-1)
        return logits, weights / weights.sum(dim=-1, keepdim=True), index


class WanderBlock(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.chooser = WanderChooser(config.hidden_size, config.wander_experts)
        self.experts = WanderExperts(config.hidden_size, config.intermediate_size, config.wander_experts)

    def forward(self, hidden):
        rows = hidden.flatten(0, -2)
        _, weights, index = self.chooser(rows)
        return self.experts(rows, index, weights).view_as(hidden)


class WanderModel(LlamaModel):
    config_class = WanderConfig

    def __init__(self, config):
        super().__init__(config)
        for layer in self.layers[1:]:
            layer.mlp = WanderBlock(config)


class WanderForCausalLM(LlamaForCausalLM):
    config_class = WanderConfig

    def __init__(self, config):
        super().__init__(config)
        self.model = WanderModel(config)


AutoConfig.register("wander", WanderConfig)
AutoModelForCausalLM.register(WanderConfig, WanderForCausalLM)


class _OnTheInterface(AdoptedExperts):
    def forward(self, hidden_states, top_k_index, top_k_weights):
        return self.call(hidden_states, top_k_index, top_k_weights)


WANDER = Family(
    "wander",
    rule=Softmax(),
    adoption=Adoption("WanderExperts", _OnTheInterface),
    routers=("chooser",),
    top_k="wander_top_k",
)
