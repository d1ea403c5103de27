"""An input format: HarmBench's results as a table, a test case a row."""

from __future__ import annotations

from collections.abc import Iterator

from moe_safety.inputs import Format
from moe_safety.inputs.record import SPLITS, Context, Record, Row, Skipped


def _rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    for record in records:
        case = record.text("test_case")
        if case is None:
            yield Skipped("no test_case")
        elif context.only_successful and str(record.values.get("label", "1")).strip() != "1":
            yield Skipped("not successful")
        else:
            yield _row(record, context, case)


def _row(record: Record, context: Context, case: str) -> Row:
    system = record.text("system")
    before = [{"role": "system", "content": system}] if system else []
    return Row(
        record.number,
        "control" if context.role == "controls" else "unsafe",
        record.goal("behavior"),
        messages=[*before, {"role": "user", "content": case}],
        answer=record.text("generation"),
        ended=record.ended(),
        category=record.category("category"),
        attack=context.attack or record.text("method"),
        split=record.choice("split", SPLITS),
    )


HARMBENCH_CSV = Format(
    name="harmbench_csv",
    about="HarmBench's test cases with the answers to them; a `label` of 1 says that the attack succeeded",
    example={"behavior": "blick the zorp", "test_case": "zorp the blick", "generation": "sure", "label": "1"},
    columns=frozenset(
        {
            *("behavior", "test_case", "generation", "label", "method", "system", "category", "split"),
            *("ended", "finish_reason"),
        }
    ),
    matches=lambda columns: {"behavior", "test_case"} <= columns,
    rows=_rows,
    precedence=0,
)
