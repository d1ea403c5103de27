"""The numbers of a model that a memory forecast rests on, read off its modules (which may be on `meta`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from moe_safety.models.decoder import decoder_layers, decoder_of
from moe_safety.models.layout import MoELayer, MoELayout


@dataclass(frozen=True)
class LayerSizes:
    """One decoder layer; widths are numbers per token."""

    index: int
    parameters: int
    linear_width: int
    """Outputs of all linear layers outside the routed experts."""
    norm_width: int
    """Inputs of all normalisations, which compute in float32."""
    routed_width: int
    """Outputs of the routed experts' own steps, for all experts of a token: products, gate, activation."""
    routed_input_width: int
    """Inputs of the routed experts, for all experts of a token."""


@dataclass(frozen=True)
class Sizes:
    """A whole model."""

    parameters: int
    expert_parameters: int
    """In routed experts."""
    parameters_per_expert: int
    """In the largest routed expert."""
    active_parameters: int
    """What one token passes through."""
    largest_tensor: int
    """Of all parameters, as they stand in memory."""
    hidden_size: int
    vocab_size: int
    layers: tuple[LayerSizes, ...]


def measure(model: PreTrainedModel, layout: MoELayout) -> Sizes:
    """The sizes of a model with this layout."""
    layers = {layer.index: layer for layer in layout.layers}
    total = _count(model)
    in_experts = sum(layer.num_experts * layer.parameters_per_expert for layer in layout.layers)
    return Sizes(
        parameters=total,
        expert_parameters=in_experts,
        parameters_per_expert=max(layer.parameters_per_expert for layer in layout.layers),
        active_parameters=total - in_experts + sum(lay.top_k * lay.parameters_per_expert for lay in layout.layers),
        largest_tensor=max(parameter.numel() for parameter in model.parameters()),
        hidden_size=layout.hidden_size,
        vocab_size=decoder_of(model).config.vocab_size,
        layers=tuple(
            _measure_layer(index, block, layers.get(index), layout.hidden_size)
            for index, block in enumerate(decoder_layers(decoder_of(model)))
        ),
    )


def _measure_layer(index: int, block: torch.nn.Module, layer: MoELayer | None, hidden: int) -> LayerSizes:
    linear = sum(module.out_features for module in block.modules() if isinstance(module, torch.nn.Linear))
    norms = sum(_count(module) for module in block.modules() if type(module).__name__.endswith("Norm"))
    top_k, inner = (layer.top_k, _inner_width(layer)) if layer else (0, 0)
    steps = 4 if layer and layer.has_gate else 2
    return LayerSizes(
        index=index,
        parameters=_count(block),
        linear_width=linear,
        norm_width=norms,
        routed_width=top_k * (steps * inner + hidden),
        routed_input_width=top_k * hidden,
    )


def _inner_width(layer: MoELayer) -> int:
    shape = next(shape for name, shape in layer.parameters.items() if name.endswith(".down_proj"))
    return shape[1] if layer.transposed else shape[2]


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
