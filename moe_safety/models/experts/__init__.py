"""The one place where experts are touched."""

from moe_safety.models.experts.forward import use_our_experts

__all__ = ["use_our_experts"]
