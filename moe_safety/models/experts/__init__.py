"""The one place where experts are touched."""

from moe_safety.models.experts.ablation_strategies import Way, Whole
from moe_safety.models.experts.activation_checkpointing import checkpointed
from moe_safety.models.experts.counting import choices, count_routing, run_counting, stopping_after_routing
from moe_safety.models.experts.effects import (
    expert_effects,
    first_order_effects,
    margin_and_effects,
    margins_and_first_order,
    measured_effects,
    way_of,
)
from moe_safety.models.experts.evaluating import evaluating
from moe_safety.models.experts.forward import use_our_experts
from moe_safety.models.experts.gradients import Magnitudes, expert_gradients, gradient_magnitudes
from moe_safety.models.experts.refusal_margin import Trial, margins
from moe_safety.models.experts.reweigh import holding_back
from moe_safety.models.experts.selective import Gather, Pair, SelectiveExperts, as_they_are, frozen, selective_experts

__all__ = [
    "Gather",
    "Magnitudes",
    "Pair",
    "SelectiveExperts",
    "Trial",
    "Way",
    "Whole",
    "as_they_are",
    "checkpointed",
    "choices",
    "count_routing",
    "evaluating",
    "expert_effects",
    "expert_gradients",
    "first_order_effects",
    "frozen",
    "gradient_magnitudes",
    "holding_back",
    "margin_and_effects",
    "margins",
    "margins_and_first_order",
    "measured_effects",
    "run_counting",
    "selective_experts",
    "stopping_after_routing",
    "use_our_experts",
    "way_of",
]
