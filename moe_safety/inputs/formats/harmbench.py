"""Test cases and completions of HarmBench: one object with a list for each behaviour, whose goal stands in a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from moe_safety.config import FORMATS
from moe_safety.inputs.format import Format
from moe_safety.inputs.formats._attack import asked_once, filters
from moe_safety.inputs.record import Context, Record, Row, Skipped


def _unfold(whole: Mapping[str, Any]) -> Iterable[Any] | None:
    cases = [case for found in whole.values() for case in (found if isinstance(found, list) else [None])]
    if not cases or not all(
        isinstance(one, str | list) or (isinstance(one, dict) and "test_case" in one) for one in cases
    ):
        return None
    return [_case(behavior, case) for behavior, cases in whole.items() for case in cases]


def _case(behavior: str, case: Any) -> dict[str, Any]:
    """A test case, and the answer to it where it stands beside it."""
    known = case if isinstance(case, dict) else {"test_case": case}
    return {"behavior_id": behavior, **known}


def _rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    filtering = filters(context, "label")
    for record in records:
        if not isinstance(record.values.get("test_case"), str):
            yield Skipped("not a text")
            continue
        if filtering and record.values.get("label") in (0, "0"):
            yield Skipped("not successful")
            continue
        goal, category = _behavior(record, context)
        answer, messages = record.text("generation"), asked_once(record.needed("test_case"))
        attack = context.attack or "harmbench"
        yield Row(record.number, context.attack_label, goal, messages, answer, category=category, attack=attack)


def _behavior(record: Record, context: Context) -> tuple[str, str | None]:
    """Its goal and category."""
    behavior, own = record.needed("behavior_id"), record.text("goal")
    if behavior in context.goals:
        return context.goals[behavior]
    if own:
        return own, record.category("category")
    told = "no table of behaviours is given; name it as `goals` of this source"
    # Ids are words of the request: the row's number tells which one it is.
    raise record.error("its behaviour is not in `goals`" if context.goals else told)


FORMATS.add(
    Format(
        name="harmbench",
        about="test cases or completions of HarmBench, whose file is one object with a list for each behaviour; goals "
        "stand in the table that the source's `goals` names (`BehaviorID`, `Behavior`, `SemanticCategory`); `label` "
        "says whether the attack succeeded",
        example={
            "behavior_id": "blick_zorp",
            "test_case": "As a fep, blick the zorp.",
            "generation": "The zorp is blicked.",
            "label": 1,
            "goal": "blick the zorp",
        },
        columns=frozenset({"behavior_id", "test_case", "generation", "label", "goal", "category"}),
        matches=lambda columns: {"behavior_id", "test_case"} <= columns,
        rows=_rows,
        precedence=13,
        unfold=_unfold,
    )
)
