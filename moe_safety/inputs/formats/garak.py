"""Reports of garak: JSON lines, of which those of the type `attempt` have a prompt and the answers to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.config import FORMATS
from moe_safety.inputs.format import Format
from moe_safety.inputs.formats._attack import asked_once, of_attacks, with_opening
from moe_safety.inputs.record import Context, Record, Row, Skipped

_COMPLETE = 2


def _rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    of_attacks(context)
    for record in records:
        values = record.values
        kind = values.get("entry_type", "hit")
        if kind not in ("attempt", "hit"):
            yield Skipped(f"an entry of the type {str(kind)[:30]}")
        elif kind == "attempt" and values.get("status") != _COMPLETE:
            # An attempt is written again when it is done.
            yield Skipped("an attempt that was not complete")
        else:
            yield _row(record, context)


def _row(record: Record, context: Context) -> Row | Skipped:
    given = record.values.get("prompt")
    if isinstance(given, str):
        messages = asked_once(record.needed("prompt"))
    else:
        turns = given.get("turns") if isinstance(given, dict) else None
        plain = Record(record.source, record.number, {"prompt": _plain(turns)})
        found = with_opening(plain.messages("prompt"), context)
        if found is None:
            return Skipped("a prefill, which only suites take")
        messages = found
    outputs = record.values.get("outputs") or [record.values.get("output")]
    answer = _text(outputs[0]) if isinstance(outputs, list) and outputs else None
    attack = record.text("probe_classname", "probe") or "garak"
    goal = record.goal("goal")
    return Row(record.number, context.attack_label, goal, messages, answer, attack=context.attack or attack)


def _plain(turns: Any) -> Any:
    """The turns with their text alone; what is no text stays as it is, and is told."""
    if not isinstance(turns, list):
        return turns
    return [turn | {"content": _text(turn.get("content"))} if isinstance(turn, dict) else turn for turn in turns]


def _text(message: Any) -> str | None:
    found = message.get("text") if isinstance(message, dict) else message
    return found if isinstance(found, str) else None


FORMATS.add(
    Format(
        name="garak",
        about="reports and hit logs of garak, of which complete attempts are taken; `goal` is the probe's own, one for "
        "all of its attempts",
        example={
            "entry_type": "attempt",
            "status": 2,
            "probe_classname": "zorps.Fep",
            "goal": "blick the zorp",
            "prompt": {"turns": [{"role": "user", "content": {"text": "As a fep, blick the zorp."}}]},
            "outputs": [{"text": "The zorp is blicked."}],
        },
        columns=frozenset({"entry_type", "status", "probe_classname", "probe", "goal", "prompt", "outputs", "output"}),
        matches=lambda columns: (
            "probe_classname" in columns or {"entry_type", "run_id"} <= columns or {"probe", "attempt_id"} <= columns
        ),
        rows=_rows,
        precedence=15,
    )
)
