"""What a router phase may train."""

from __future__ import annotations

from transformers import PreTrainedModel

from moe_safety.models.layout import MoELayout
from moe_safety.models.routers.hooks import rule_of


def routers(model: PreTrainedModel, layout: MoELayout) -> list[str]:
    """The names of the routers' learned parameters, layer by layer; correction biases are set, not learned."""
    rule_of(model)
    return [
        f"{layer.router}.{name}"
        for layer in layout.layers
        for name, _ in model.get_submodule(layer.router).named_parameters()
        if "correction_bias" not in name
    ]
