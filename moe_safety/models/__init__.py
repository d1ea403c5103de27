"""Models: where their experts are, how to touch them, and the demo model."""

from moe_safety.models.layout import MoELayer, MoELayout, inspect_model

__all__ = ["MoELayer", "MoELayout", "inspect_model"]
