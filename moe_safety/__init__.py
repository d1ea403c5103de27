"""Find the experts of a mixture-of-experts chat model that a jailbreak reaches, and repair only them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "MoELayout": "moe_safety.models.layout",
    "count_routing": "moe_safety.models.experts",
    "expert_effects": "moe_safety.models.experts",
    "expert_gradients": "moe_safety.models.experts",
    "inspect_model": "moe_safety.models.layout",
}
"""Public names and where they stand; imported on first use, so that the command line starts without torch."""

__all__ = ["MoELayout", "count_routing", "expert_effects", "expert_gradients", "inspect_model"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'moe_safety' has no attribute '{name}'")
