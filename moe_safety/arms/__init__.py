"""Arms: ways of hardening a model, each one value, and what each of them trains, by which loss."""

from moe_safety.arms.arm import SELECTED, Arm, OfArm, Phase
from moe_safety.arms.choice import AsMany, ByMethod, Choice, Drawn, Permuted
from moe_safety.arms.loss import ForwardPass, Loss, TokenLosses, token_losses
from moe_safety.arms.losses.answers import ANSWERS
from moe_safety.arms.parameters import SIZED, Asked, Trained, names_of, parameters_of, routers, size_of
from moe_safety.arms.seeded import (
    CHOICE,
    BudgetArm,
    SeededArm,
    arm_of,
    budget_arms,
    kind_of,
    own_arm,
    rate_trials,
    seeded_arms,
    told_of,
)
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS, LOSSES

__all__ = [
    "ANSWERS",
    "ARMS",
    "BASE",
    "CHOICE",
    "LOSSES",
    "SELECTED",
    "SIZED",
    "Arm",
    "AsMany",
    "Asked",
    "BudgetArm",
    "ByMethod",
    "Choice",
    "Drawn",
    "ForwardPass",
    "Loss",
    "OfArm",
    "Permuted",
    "Phase",
    "SeededArm",
    "TokenLosses",
    "Trained",
    "arm_of",
    "budget_arms",
    "kind_of",
    "names_of",
    "own_arm",
    "parameters_of",
    "rate_trials",
    "routers",
    "seeded_arms",
    "selected_arm",
    "size_of",
    "token_losses",
    "told_of",
]


LOSSES.add_folder("moe_safety.arms.losses")
ARMS.add_folder("moe_safety.arms.declared")

BASE = "base"
"""The arm of the untouched model."""
