"""FlipAttack results: `goal`, `all_prompt`, `output`, and `judge_success_gpt4` where it was judged."""

from __future__ import annotations

from collections.abc import Iterator, Set

from moe_safety.inputs.formats._attack import Shape, attack_rows
from moe_safety.inputs.record import Context, Record, Row, Skipped


def matches(columns: Set[str]) -> bool:
    return not columns.isdisjoint({"all_prompt", "flip_attack"})


def rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    return attack_rows(_SHAPE, records, context)


def _successful(record: Record) -> bool:
    verdict = record.values.get("judge_success_gpt4")
    return verdict == 1 or verdict == "1"


_SHAPE = Shape(
    goal=("goal",),
    answer=("output",),
    verdict=("judge_success_gpt4",),
    successful=_successful,
    attack=lambda record: "flipattack",
)
