"""Persuasion and DeepInception results: `prompt` is the goal, and a score above 0 is a success."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

from moe_safety.inputs.formats._attack import Shape, attack_rows
from moe_safety.inputs.record import Context, Record, Row, Skipped

_INCEPTION = {"inception_attack_response", "inception_attack_score"}


def matches(columns: Set[str]) -> bool:
    own = _INCEPTION | {"attack_response"}
    return not columns.isdisjoint(own) or ({"prompt", "all_prompt"} <= columns and "goal" not in columns)


def rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    return attack_rows(_SHAPE, records, context)


def _successful(record: Record) -> bool:
    judged = record.values.get("judge_result")
    score = judged.get("score") if isinstance(judged, dict) else None
    return _above_zero(score) or _above_zero(record.values.get("inception_attack_score"))


def _above_zero(score: Any) -> bool:
    try:
        return float(score) > 0
    except (TypeError, ValueError):
        return False


def _attack(record: Record) -> str:
    return "persuasion" if _INCEPTION.isdisjoint(record.values) else "deepinception"


_SHAPE = Shape(
    goal=("prompt", "goal"),
    answer=("attack_response", "inception_attack_response"),
    verdict=("judge_result", "inception_attack_score"),
    successful=_successful,
    attack=_attack,
)
