"""Model families that need a declaration, one file each; those whose routers follow a usual rule share `usual`."""

from __future__ import annotations

from typing import Any

from moe_safety.errors import InputError
from moe_safety.models.families.family import FAMILIES, AdoptedExperts, Adoption, Family
from moe_safety.models.families.router_rules import RouterCall, Rule, Sigmoid, Softmax, SoftmaxOfChosen

__all__ = [
    "FAMILIES",
    "AdoptedExperts",
    "Adoption",
    "Family",
    "RouterCall",
    "Rule",
    "Sigmoid",
    "Softmax",
    "SoftmaxOfChosen",
    "declared",
    "family_of",
]

FAMILIES.add_folder("moe_safety.models.families")


def declared(model_type: str) -> Family:
    """What is declared of this model type, served or not."""
    return FAMILIES.get(model_type) if model_type in FAMILIES else Family(model_type)


def family_of(config: Any) -> Family:
    """The family of a decoder, by the model type of its config."""
    family = declared(config.model_type)
    if family.refusal:
        raise InputError(family.refusal)
    return family
