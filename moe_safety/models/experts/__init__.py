"""The one place where experts are touched."""

from moe_safety.models.experts.counting import count_routing, run_counting
from moe_safety.models.experts.effects import expert_effects
from moe_safety.models.experts.forward import use_our_experts
from moe_safety.models.experts.gradients import Magnitudes, expert_gradients, gradient_magnitudes

__all__ = [
    "Magnitudes",
    "count_routing",
    "expert_effects",
    "expert_gradients",
    "gradient_magnitudes",
    "run_counting",
    "use_our_experts",
]
