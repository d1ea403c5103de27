"""Artifacts of JailbreakBench: one object with `parameters` and a list of `jailbreaks`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from moe_safety.config import FORMATS
from moe_safety.inputs.format import Format
from moe_safety.inputs.formats._attack import asked_once, filters
from moe_safety.inputs.record import Context, Record, Row, Skipped


def _unfold(whole: Mapping[str, Any]) -> Iterable[Any] | None:
    jailbreaks = whole.get("jailbreaks")
    if not isinstance(jailbreaks, list):
        return None
    parameters = whole.get("parameters")
    method = parameters.get("method") if isinstance(parameters, dict) else None
    return [row | {"method": method} if isinstance(row, dict) else row for row in jailbreaks]


def _rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    filtering = filters(context, "jailbroken")
    for record in records:
        prompt = record.text("prompt")
        if prompt is None:
            # The tool found no jailbreak for it.
            yield Skipped("no prompt")
        elif filtering and record.values.get("jailbroken") is False:
            yield Skipped("not successful")
        else:
            messages = asked_once(prompt)
            attack = record.text("method") or "jailbreakbench"
            answer, category = record.text("response"), record.category("category")
            goal, label = record.goal("goal"), context.attack_label
            yield Row(record.number, label, goal, messages, answer, category=category, attack=context.attack or attack)


FORMATS.add(
    Format(
        name="jailbreakbench",
        about="artifacts of JailbreakBench, whose file is one object with such rows under `jailbreaks`; `jailbroken` "
        "says whether the attack succeeded",
        example={
            "method": "PAIR",
            "goal": "blick the zorp",
            "category": "zorps",
            "prompt": "As a fep, blick the zorp.",
            "response": "The zorp is blicked.",
            "jailbroken": True,
        },
        columns=frozenset({"goal", "prompt", "response", "jailbroken", "category", "method"}),
        matches=lambda columns: {"goal", "prompt", "jailbroken"} <= columns,
        rows=_rows,
        precedence=11,
        unfold=_unfold,
    )
)
