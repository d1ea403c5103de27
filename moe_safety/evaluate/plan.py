"""The plan of an examination: answers to give, answers to weigh, routing to read, tasks to solve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from moe_safety.batches.answers import pack_prompts, prompt_seed
from moe_safety.batches.encoded import TOKENS
from moe_safety.config import EvaluateConfig
from moe_safety.jobs import Plan, pack

ANSWERS, LOSSES, ROUTING, TASKS = "answers", "losses", "routing", "tasks"

PLAN_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("prompt_id", pa.string()),
        ("tokens", TOKENS),
        ("answer", TOKENS),
        ("seed", pa.int64()),
    ]
)
"""All rows of an item are of one kind. `tokens` are the prompt and, before a given answer, what the template writes
there. In `tasks` the prompt's id is the name of a task of lm-evaluation-harness."""


def write_exam(
    plan: Plan, exam: Sequence[dict[str, Any]], settings: EvaluateConfig, *, seed: int, routing: bool, identity: str
) -> None:
    """Prompts of like length stand together. `exam` is encoded: it says of each row whether its prompt fits, and
    whether it does with its reference. `routing` says whether the model's routing can be read."""
    plan.write(_items(exam, settings, seed, routing), PLAN_SCHEMA, identity)


def items_of(plan: Plan, kind: str) -> list[int]:
    """The items of one kind, in order."""
    return [item for item in range(len(plan)) if plan.rows(item)["kind"][0].as_py() == kind]


def _items(exam: Sequence[dict[str, Any]], settings: EvaluateConfig, seed: int, routing: bool) -> Iterator[pa.Table]:
    budget = settings.max_tokens_per_forward
    asked = [_asked(row, seed) for row in exam if row["prompt_fits"]]
    sizes = [len(row["tokens"]) + settings.max_new_tokens for row in asked]
    for group in pack_prompts(sizes, budget):
        yield _table(ANSWERS, [asked[place] for place in group.tolist()])
    whole = [_weighed(row) for row in exam if row["fits"]]
    known = [row for row in whole if row["label"] == "benign" and row["answer"]]
    yield from _packed(LOSSES, known, budget)
    if routing:
        # What is kept of a token here is a number for each expert of each layer, so fewer tokens go together.
        yield from _packed(ROUTING, _seen(whole, settings.routing_prompts), budget // 4)
    for task in settings.lm_eval_tasks:
        yield _table(TASKS, [{"prompt_id": task, "tokens": [], "answer": [], "seed": 0}])


def _asked(row: dict[str, Any], seed: int) -> dict[str, Any]:
    return row | {"tokens": row["prompt_tokens"], "answer": [], "seed": prompt_seed(seed, row["prompt_id"])}


def _weighed(row: dict[str, Any]) -> dict[str, Any]:
    """With its reference, behind what the template writes before an answer."""
    return row | {"tokens": [*row["prompt_tokens"], *row["target_prefix"]], "answer": row["target_tokens"], "seed": 0}


def _seen(rows: Sequence[dict[str, Any]], at_most: int) -> list[dict[str, Any]]:
    """The prompts whose routing is read: the first of each kind by id, so that they are drawn from all files alike."""
    found = []
    for label in ("safe", "unsafe", "benign", "control"):
        of_kind = [row for row in rows if row["label"] == label and not row["reattack"]]
        found += sorted(of_kind, key=lambda row: row["prompt_id"])[:at_most]
    return found


def _packed(kind: str, rows: Sequence[dict[str, Any]], budget: int) -> Iterator[pa.Table]:
    for group in pack([len(row["tokens"]) + len(row["answer"]) for row in rows], budget):
        yield _table(kind, [rows[place] for place in group.tolist()])


def _table(kind: str, rows: list[dict[str, Any]]) -> pa.Table:
    named = [{name: row.get(name, kind) for name in PLAN_SCHEMA.names} for row in rows]
    return pa.Table.from_pylist(named, schema=PLAN_SCHEMA)
