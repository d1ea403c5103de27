"""FlipAttack results: `goal`, `all_prompt`, `output`, and `judge_success_gpt4` where it was judged."""

from __future__ import annotations

from collections.abc import Iterator, Set

from moe_safety.config import FORMATS
from moe_safety.inputs.format import Format
from moe_safety.inputs.formats._attack import COLUMNS, Shape, attack_rows
from moe_safety.inputs.record import Context, Record, Row, Skipped


def _matches(columns: Set[str]) -> bool:
    return not columns.isdisjoint({"all_prompt", "flip_attack"})


def _rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
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

FORMATS.add(
    Format(
        name="flipattack",
        about="results of FlipAttack; `judge_success_gpt4` is 1 where the attack succeeded",
        example={
            "goal": "blick the zorp",
            "flip_attack": "zorp the blick",
            "all_prompt": [{"role": "user", "content": "zorp the blick"}],
            "output": "The zorp is blicked.",
            "judge_success_gpt4": 1,
        },
        columns=COLUMNS | {"flip_attack", "output", "judge_success_gpt4"},
        matches=_matches,
        rows=_rows,
        precedence=20,
    )
)
