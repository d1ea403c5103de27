"""The plan of an examination: answers to give, answers to weigh, routing to read, tasks to solve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from moe_safety.config import EvaluateConfig
from moe_safety.evaluate.harness import tokens_at_once
from moe_safety.generation import Opening
from moe_safety.generation.answers import prompt_seed
from moe_safety.generation.items import ANSWERS, PLAN_SCHEMA, items_to_answer, make_item
from moe_safety.jobs import Plan, pack, spread

PREFILLS, LOSSES, ROUTING, TASKS, ANSWER_SHIFT = "prefills", "losses", "routing", "tasks", "answer-shift"
"""The kinds of item beside answers. Answers of `prefills` go on from what stands in `answer`; in `tasks` the prompt's
id is a request of lm-evaluation-harness."""


def write_exam(
    plan: Plan,
    exam: Sequence[dict[str, Any]],
    opening: Opening,
    settings: EvaluateConfig,
    *,
    seed: int,
    routing: bool,
    tasks: Sequence[dict[str, Any]],
    further: Iterable[pa.Table] = (),
    identity: str,
) -> None:
    """Prompts of like length stand together. `exam` is encoded: it says of each row whether its prompt fits, and
    whether it does with its reference. `routing` says whether the model's routing can be read; `tasks` are the
    harness's requests, `further` items that stand already."""
    items = chain(_items(exam, opening, settings, seed, routing, tasks), further)
    plan.write(items, PLAN_SCHEMA, identity)


def _items(
    exam: Sequence[dict[str, Any]],
    opening: Opening,
    settings: EvaluateConfig,
    seed: int,
    routing: bool,
    tasks: Sequence[dict[str, Any]],
) -> Iterator[pa.Table]:
    budget = settings.max_tokens_per_forward
    asked = [
        _asked(row, settings.temperature, seed, sample)
        for row in exam
        if row["prompt_fits"]
        for sample in samples_of(row, settings)
    ]
    begun = [row for row in asked if row["answer"]]
    yield from items_to_answer(ANSWERS, [row for row in asked if not row["answer"]], opening, budget)
    yield from items_to_answer(PREFILLS, begun, opening, budget)
    whole = [_weighed(row) for row in exam if row["fits"]]
    known = [row for row in whole if row["label"] == "benign" and row["answer"] and row["suite"] is None]
    yield from _packed(LOSSES, known, budget)
    if routing:
        # What is kept of a token here is a number for each expert of each layer, so fewer tokens go together.
        yield from _packed(ROUTING, _seen(whole, settings.routing_prompts), budget // 4)
    harmless = [row for row in whole if row["label"] in ("benign", "control") and row["answer"]]
    yield from _packed(ANSWER_SHIFT, _seen(harmless, settings.routing_prompts), budget // 4)
    for groups in spread(pack([one["size"] for one in tasks], tokens_at_once(settings))):
        yield make_item(TASKS, [tasks[place] for group in groups for place in group.tolist()])


def samples_of(row: dict[str, Any], settings: EvaluateConfig) -> range:
    """The samples of a prompt's answer: attacks have several, where they are asked for."""
    return range(settings.samples if row["label"] == "unsafe" else 1)


def sample_id(prompt_id: str, sample: int) -> str:
    """What an answer is known by, and has its source of chance from; the first sample has the prompt's own."""
    return f"{prompt_id}:{sample}" if sample else prompt_id


def _asked(row: dict[str, Any], temperature: float, seed: int, sample: int) -> dict[str, Any]:
    known = {"prompt_id": sample_id(row["prompt_id"], sample), "tokens": row["prompt_tokens"]}
    known |= {"prefix": row["opening_prefix"], "answer": row["opening_tokens"]}
    return known | {"temperature": temperature, "seed": prompt_seed(seed, known["prompt_id"])}


def _weighed(row: dict[str, Any]) -> dict[str, Any]:
    """With its reference, behind what the template writes before an answer."""
    return row | {"tokens": row["prompt_tokens"], "prefix": row["target_prefix"], "answer": row["target_tokens"]}


def _seen(rows: Sequence[dict[str, Any]], at_most: int) -> list[dict[str, Any]]:
    """The prompts whose routing is read: the first of each kind by id, so that they are drawn from all files alike."""
    found = []
    for label in ("safe", "unsafe", "benign", "control"):
        of_kind = [row for row in rows if row["label"] == label and not row["reattack"] and row["suite"] is None]
        found += sorted(of_kind, key=lambda row: row["prompt_id"])[:at_most]
    return found


def _packed(kind: str, rows: Sequence[dict[str, Any]], budget: int) -> Iterator[pa.Table]:
    for group in pack([sum(len(row[name]) for name in ("tokens", "prefix", "answer")) for row in rows], budget):
        yield make_item(kind, [rows[place] for place in group.tolist()])
