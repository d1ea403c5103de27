"""Which prompts experts are held back on, and the two answers that each is asked to weigh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from moe_safety.config import EffectsConfig
from moe_safety.errors import InputError
from moe_safety.pipeline import BATCHES

FORWARDS_PER_ITEM = 8
TRIALS_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("label", pa.string()),
        ("prompt", pa.list_(pa.int32())),
        ("safe", pa.list_(pa.int32())),
        ("unsafe", pa.list_(pa.int32())),
    ]
)


def choose_trials(
    batches: pa.Table, goals: dict[str, str], refusal: Sequence[int], settings: EffectsConfig
) -> pa.Table:
    """Unsafe prompts, then control prompts, of different goals, evenly over all batches. `goals` is by prompt, and
    `refusal` the tokens of a refusal for what needs none."""
    rows: list[dict[str, Any]] = []
    for label in ("unsafe", "control"):
        candidates = {goals[row["prompt_id"]]: row for row in _answered(batches, label)}
        chosen = _evenly(list(candidates.values()), settings.prompts)
        rows += [_trial(row, refusal, settings.opening) for row in chosen]
    if not any(row["label"] == "unsafe" for row in rows):
        raise InputError("holds no unsafe prompt with an answer, which effects are measured on", file=BATCHES)
    return pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA)


def items_of(trials: pa.Table, candidates: list[int], max_tokens: int) -> Iterator[pa.Table]:
    """A prompt and some of the experts: as many as a few forward passes hold."""
    from moe_safety.effects.measurer import trials_of

    schema = TRIALS_SCHEMA.append(pa.field("experts", pa.list_(pa.int32())))
    for row, trial in zip(trials.to_pylist(), trials_of(trials), strict=True):
        size = max(1, FORWARDS_PER_ITEM * max_tokens // (2 * trial.length))
        for start in range(0, len(candidates), size):
            yield pa.Table.from_pylist([row | {"experts": candidates[start : start + size]}], schema=schema)


def _answered(batches: pa.Table, label: str) -> list[dict[str, Any]]:
    columns = ["prompt_id", "label", "prompt_tokens", "answer_tokens", "target_prefix", "target_tokens"]
    return [row for row in batches.select(columns).to_pylist() if row["label"] == label and row["answer_tokens"]]


def _evenly(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def _trial(row: dict[str, Any], refusal: Sequence[int], opening: int) -> dict[str, Any]:
    """On a control prompt the refusal is a template, and what the model said is the help. Both answers stand behind
    what the template writes before one, without a thought."""
    return {
        "prompt_id": row["prompt_id"],
        "label": row["label"],
        "prompt": [*row["prompt_tokens"], *row["target_prefix"]],
        "safe": list(row["target_tokens"] if row["label"] == "unsafe" else refusal)[:opening],
        "unsafe": row["answer_tokens"][:opening],
    }
