"""Which prompts experts are held back on, and the two answers that each is asked to weigh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from moe_safety.batches.targets import REFUSALS
from moe_safety.config import EffectsConfig
from moe_safety.errors import InputError
from moe_safety.models.encode import answer_tokens, cut_left, prompt_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
    batches: pa.Table,
    goals: dict[str, str],
    tokenizer: PreTrainedTokenizerBase,
    settings: EffectsConfig,
    max_length: int,
) -> pa.Table:
    """Unsafe prompts, then control prompts, of different goals, evenly over all batches. `goals` is by prompt."""
    rows: list[dict[str, Any]] = []
    for label in ("unsafe", "control"):
        candidates = {goals[row["prompt_id"]]: row for row in _answered(batches, label)}
        chosen = _evenly(list(candidates.values()), settings.prompts)
        rows += [_trial(row, tokenizer, settings.opening, max_length) for row in chosen]
    if not any(row["label"] == "unsafe" for row in rows):
        raise InputError("holds no unsafe prompt with an answer, which effects are measured on", file="batches.parquet")
    return pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA)


def _answered(batches: pa.Table, label: str) -> list[dict[str, Any]]:
    rows = batches.select(["prompt_id", "label", "messages", "answer", "target"]).to_pylist()
    return [row for row in rows if row["label"] == label and row["answer"]]


def _evenly(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    count = min(count, len(rows))
    return [rows[place * len(rows) // count] for place in range(count)]


def _trial(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, opening: int, max_length: int) -> dict[str, Any]:
    """On a control prompt the refusal is a template, and what the model said is the help."""
    refusal = row["target"] if row["label"] == "unsafe" else REFUSALS[0]
    prompt = prompt_tokens(tokenizer, row["messages"])
    return {
        "prompt_id": row["prompt_id"],
        "label": row["label"],
        "prompt": cut_left(prompt, max(max_length - opening, 1)),
        "safe": answer_tokens(tokenizer, refusal)[:opening],
        "unsafe": answer_tokens(tokenizer, row["answer"])[:opening],
    }
