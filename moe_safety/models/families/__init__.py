"""Exceptions to the experts interface, one file each. A family that is not named here needs no code."""

from __future__ import annotations

from typing import Any

from moe_safety.errors import InputError
from moe_safety.models.families.base import Family
from moe_safety.models.families.llama4 import Llama4
from moe_safety.models.families.longcat_flash import LongcatFlash
from moe_safety.models.families.zaya import Zaya

__all__ = ["EXCEPTIONS", "REFUSED", "Family", "family_of"]

EXCEPTIONS: dict[str, Family] = {
    "llama4_text": Llama4(),
    "longcat_flash": LongcatFlash(),
    "zaya": Zaya(),
}

REFUSED: dict[str, str] = {
    "dbrx": "dbrx keeps its experts in flat matrices that the experts interface of transformers does not reach",
    "doge": "doge mixes the router scores of different tokens, so no expert can be counted for a prompt",
    "jetmoe": "jetmoe routes its attention through experts too, outside the experts interface of transformers",
}
"""Model types with experts that cannot be served, and why."""


def family_of(config: Any) -> Family:
    """The adapter of a decoder, by the model type of its config."""
    if config.model_type in REFUSED:
        raise InputError(REFUSED[config.model_type])
    return EXCEPTIONS.get(config.model_type, Family())
