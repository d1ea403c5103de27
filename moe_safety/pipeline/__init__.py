"""What a stage is, the order of stages, and how they are run."""

from moe_safety.pipeline.artifacts import (
    BATCH_MASKS,
    BATCHES,
    COMPARISON,
    EVALUATED,
    EXPERT_EFFECTS,
    EXPERT_GRADIENTS,
    MASK,
    PROMPTS,
    REPORT,
    RESPONSES,
    RISK,
    ROUTING,
    SELECTION,
    TRAINED,
)
from moe_safety.pipeline.order import in_order
from moe_safety.pipeline.run import run_all, run_one
from moe_safety.pipeline.stage import STAGES, Flag, Stage

__all__ = [
    "BATCHES",
    "BATCH_MASKS",
    "COMPARISON",
    "EVALUATED",
    "EXPERT_EFFECTS",
    "EXPERT_GRADIENTS",
    "MASK",
    "PROMPTS",
    "REPORT",
    "RESPONSES",
    "RISK",
    "ROUTING",
    "SELECTION",
    "STAGES",
    "TRAINED",
    "Flag",
    "Stage",
    "in_order",
    "run_all",
    "run_one",
]
