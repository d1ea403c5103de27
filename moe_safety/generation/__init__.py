"""Engines, which let a model answer; and the job that asks them, the same for `respond` and for the evaluation of any
model."""

from moe_safety.config.names import ENGINES
from moe_safety.generation.answers import ANSWER_FIELDS, TOKENS, answers_table, pack_prompts, prompt_seed
from moe_safety.generation.engine import (
    Ability,
    Engine,
    Opening,
    check_able,
    engine_settings,
    limits_of,
    opening_of,
)
from moe_safety.generation.items import (
    ANSWERS,
    PLAN_SCHEMA,
    ItemHandler,
    Kind,
    answer_prompts,
    given_answers,
    items_of,
    items_to_answer,
    make_item,
    tables_of,
)
from moe_safety.models.encode import Answer, Limits

ENGINES.add_folder("moe_safety.generation.engines")

__all__ = [
    "ANSWERS",
    "ANSWER_FIELDS",
    "ENGINES",
    "PLAN_SCHEMA",
    "TOKENS",
    "Ability",
    "Answer",
    "Engine",
    "ItemHandler",
    "Kind",
    "Limits",
    "Opening",
    "answer_prompts",
    "answers_table",
    "check_able",
    "engine_settings",
    "given_answers",
    "items_of",
    "items_to_answer",
    "limits_of",
    "make_item",
    "opening_of",
    "pack_prompts",
    "prompt_seed",
    "tables_of",
]
