"""Find the experts of a mixture-of-experts chat model that a jailbreak reaches, and repair only them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_safety.identify.statistics import (
        aggregate_batch_risk_diffs,
        calculate_risk_diff_per_batch,
        create_expert_mask,
        identify_unsafe_experts,
    )
    from moe_safety.models import MoELayout, inspect_model
    from moe_safety.models.experts import count_routing, expert_effects, expert_gradients, selective_experts
    from moe_safety.train.optimizer import LazyAdamW
    from moe_safety.train.sampler import BatchPreservingSampler

_HOMES = {
    "BatchPreservingSampler": "moe_safety.train.sampler",
    "LazyAdamW": "moe_safety.train.optimizer",
    "MoELayout": "moe_safety.models.layout",
    "aggregate_batch_risk_diffs": "moe_safety.identify.statistics",
    "calculate_risk_diff_per_batch": "moe_safety.identify.statistics",
    "count_routing": "moe_safety.models.experts",
    "create_expert_mask": "moe_safety.identify.statistics",
    "expert_effects": "moe_safety.models.experts",
    "expert_gradients": "moe_safety.models.experts",
    "identify_unsafe_experts": "moe_safety.identify.statistics",
    "inspect_model": "moe_safety.models.layout",
    "selective_experts": "moe_safety.models.experts.selective",
}
"""Public names and where they stand; imported on first use, so that the command line starts without torch."""

__all__ = [
    "BatchPreservingSampler",
    "LazyAdamW",
    "MoELayout",
    "aggregate_batch_risk_diffs",
    "calculate_risk_diff_per_batch",
    "count_routing",
    "create_expert_mask",
    "expert_effects",
    "expert_gradients",
    "identify_unsafe_experts",
    "inspect_model",
    "selective_experts",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'moe_safety' has no attribute '{name}'")
