"""The one place where experts are touched."""

from moe_safety.models.experts.counting import count_routing, run_counting
from moe_safety.models.experts.forward import use_our_experts

__all__ = ["count_routing", "run_counting", "use_our_experts"]
