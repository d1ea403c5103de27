"""Engines, which let a model answer; and the job that asks them, the same for `respond` and for the evaluation of any
model."""

from moe_safety.config import ENGINES
from moe_safety.generation.engine import (
    Ability,
    Engine,
    Opening,
    check_able,
    engine_settings,
    limits_of,
    opening_of,
)
from moe_safety.models.text import Answer, Limits

ENGINES.add_folder("moe_safety.generation.engines")

__all__ = [
    "ENGINES",
    "Ability",
    "Answer",
    "Engine",
    "Limits",
    "Opening",
    "check_able",
    "engine_settings",
    "limits_of",
    "opening_of",
]
