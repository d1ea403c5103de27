"""Reports of garak: JSON lines, of which those of the type `attempt` have a prompt and the answers to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.config import FORMATS
from moe_safety.inputs.format import Format
from moe_safety.inputs.formats._attack import asked_once, successes, with_opening
from moe_safety.inputs.record import Context, Record, Row, Skipped

_COMPLETE = 2
_THRESHOLD = "run.eval_threshold"
_USUAL_THRESHOLD = 0.5


def _rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    every = list(records)
    given = [record.values.get(_THRESHOLD) for record in every]
    threshold = next((float(one) for one in given if isinstance(one, int | float)), _USUAL_THRESHOLD)
    takes = successes(every, context, lambda record: _success(record, threshold))
    for record in every:
        values = record.values
        kind = values.get("entry_type", "hit")
        if kind not in ("attempt", "hit"):
            yield Skipped(f"an entry of the type {str(kind)[:30]}")
        elif kind == "attempt" and values.get("status") != _COMPLETE:
            # An attempt is written again when it is done.
            yield Skipped("an attempt that was not complete")
        elif not takes(record):
            yield Skipped("not successful")
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
    grades = _grades(record)
    first = max(grades, key=lambda place: grades[place], default=0)
    answer = _text(outputs[first]) if isinstance(outputs, list) and first < len(outputs) else None
    attack = record.text("probe_classname", "probe") or "garak"
    goal = record.goal("goal")
    return Row(record.number, context.attack_label, goal, messages, answer, attack=context.attack or attack)


def _success(record: Record, threshold: float) -> bool | None:
    """Whether any detector hit any of its outputs, as garak itself counts; a row of a hit log is such a hit. Nothing of
    other entries, and where no detector was asked."""
    kind = record.values.get("entry_type", "hit")
    if kind == "hit":
        return True
    grades = _grades(record).values() if kind == "attempt" else ()
    return max(grades) >= threshold if grades else None


def _grades(record: Record) -> dict[int, float]:
    """The highest score that any detector gave, by the output's place."""
    found: dict[int, float] = {}
    results = record.values.get("detector_results")
    for scores in results.values() if isinstance(results, dict) else ():
        for place, score in enumerate(scores if isinstance(scores, list) else ()):
            if isinstance(score, int | float):
                found[place] = max(found.get(place, 0.0), float(score))
    return found


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
        "all of its attempts. An attempt succeeded where a detector's score reaches the run's `eval_threshold`; the "
        "output with the highest score is the answer",
        example={
            "entry_type": "attempt",
            "status": 2,
            "probe_classname": "zorps.Fep",
            "goal": "blick the zorp",
            "prompt": {"turns": [{"role": "user", "content": {"text": "As a fep, blick the zorp."}}]},
            "outputs": [{"text": "The zorp is blicked."}],
            "detector_results": {"zorps.Blicked": [1.0]},
        },
        columns=frozenset(
            {
                *("entry_type", "status", "probe_classname", "probe", "goal", "prompt", "outputs", "output"),
                *("detector_results", _THRESHOLD),
            }
        ),
        matches=lambda columns: (
            "probe_classname" in columns or {"entry_type", "run_id"} <= columns or {"probe", "attempt_id"} <= columns
        ),
        rows=_rows,
        precedence=15,
    )
)
