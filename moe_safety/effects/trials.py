"""Which prompts experts are held back on, and the two answers that each is asked to weigh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.config import EffectsConfig
from moe_safety.errors import InputError
from moe_safety.pipeline import BATCHES

FORWARDS_PER_ITEM = 8
_ROWS_AT_ONCE = 2000
_READ = ["prompt_id", "label", "prompt_tokens", "answer_tokens", "target_prefix", "target_tokens"]
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
    batches: pq.ParquetFile, goals: Mapping[str, str], refusal: Sequence[int], settings: EffectsConfig
) -> pa.Table:
    """Unsafe prompts, then control prompts, of different goals, evenly over all batches. `goals` is by prompt, and
    `refusal` the tokens of a refusal for what needs none. Batches are read twice, so that no more rows are held than
    are chosen."""
    places: dict[str, dict[str, int]] = {"unsafe": {}, "control": {}}
    for start, piece in _pieces(batches, ["prompt_id", "label", "answer_tokens"]):
        for place, row in enumerate(piece.to_pylist(), start):
            if row["label"] in places and row["answer_tokens"]:
                places[row["label"]][goals[row["prompt_id"]]] = place
    chosen = [place for own in places.values() for place in _evenly([*own.values()], settings.prompts)]
    rows: dict[int, dict[str, Any]] = {}
    for start, piece in _pieces(batches, _READ):
        here = sorted(place for place in chosen if start <= place < start + len(piece))
        rows |= zip(here, piece.take(pa.array([place - start for place in here], pa.int32())).to_pylist(), strict=True)
    if not places["unsafe"]:
        raise InputError("holds no unsafe prompt with an answer, which effects are measured on", file=BATCHES)
    return pa.Table.from_pylist(
        [_trial(rows[place], refusal, settings.opening) for place in chosen], schema=TRIALS_SCHEMA
    )


def _pieces(batches: pq.ParquetFile, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Some columns a piece at a time, with the number of its first row."""
    start = 0
    for piece in batches.iter_batches(_ROWS_AT_ONCE, columns=columns):
        yield start, piece
        start += len(piece)


def items_of(trials: pa.Table, candidates: list[int], max_tokens: int) -> Iterator[pa.Table]:
    """A prompt and some of the experts: as many as a few forward passes hold."""
    from moe_safety.effects.measurer import trials_of

    schema = TRIALS_SCHEMA.append(pa.field("experts", pa.list_(pa.int32())))
    for row, trial in zip(trials.to_pylist(), trials_of(trials), strict=True):
        size = max(1, FORWARDS_PER_ITEM * max_tokens // (2 * trial.length))
        for start in range(0, len(candidates), size):
            yield pa.Table.from_pylist([row | {"experts": candidates[start : start + size]}], schema=schema)


def _evenly(places: list[int], count: int) -> list[int]:
    count = min(count, len(places))
    return [places[each * len(places) // count] for each in range(count)]


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
