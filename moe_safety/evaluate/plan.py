"""The plan of an examination: answers to give, answers to weigh, routing to read, tasks to solve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from moe_safety.batches.answers import prompt_seed
from moe_safety.config import EvaluateConfig
from moe_safety.jobs import Plan, pack
from moe_safety.models.encode import answer_tokens, cut_left, prompt_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWERS, LOSSES, ROUTING, TASKS = "answers", "losses", "routing", "tasks"

PLAN_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("prompt_id", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("answer", pa.list_(pa.int32())),
        ("seed", pa.int64()),
    ]
)
"""All rows of an item are of one kind. In `tasks` the prompt's id is the name of a task of lm-evaluation-harness."""


def write_exam(
    plan: Plan,
    exam: pa.Table,
    tokenizer: PreTrainedTokenizerBase,
    settings: EvaluateConfig,
    *,
    seed: int,
    routing: bool,
    identity: str,
) -> None:
    """Prompts of like length stand together. `routing` says whether the model's routing can be read."""
    rows = [_row(tokenizer, prompt, settings.max_length, seed) for prompt in exam.to_pylist()]
    plan.write(_items(rows, settings, routing), PLAN_SCHEMA, identity)


def items_of(plan: Plan, kind: str) -> list[int]:
    """The items of one kind, in order."""
    return [item for item in range(len(plan)) if plan.rows(item)["kind"][0].as_py() == kind]


def _row(tokenizer: PreTrainedTokenizerBase, prompt: dict[str, Any], max_length: int, seed: int) -> dict[str, Any]:
    reference = prompt["reference"]
    return prompt | {
        "tokens": cut_left(prompt_tokens(tokenizer, prompt["messages"]), max_length),
        "answer": [] if reference is None else answer_tokens(tokenizer, reference),
        "seed": prompt_seed(seed, prompt["prompt_id"]),
    }


def _items(rows: Sequence[dict[str, Any]], settings: EvaluateConfig, routing: bool) -> Iterator[pa.Table]:
    budget = settings.max_tokens_per_forward
    yield from _packed(ANSWERS, rows, [len(row["tokens"]) + settings.max_new_tokens for row in rows], budget)
    known = [row for row in rows if row["label"] == "benign" and row["answer"]]
    yield from _packed(LOSSES, known, [len(row["tokens"]) + len(row["answer"]) for row in known], budget)
    if routing:
        seen = _seen(rows, settings.routing_prompts)
        # What is kept of a token here is a number for each expert of each layer, so fewer tokens go together.
        yield from _packed(ROUTING, seen, [len(row["tokens"]) + len(row["answer"]) for row in seen], budget // 4)
    for task in settings.lm_eval_tasks:
        yield _table(TASKS, [{"prompt_id": task, "tokens": [], "answer": [], "seed": 0}])


def _seen(rows: Sequence[dict[str, Any]], at_most: int) -> list[dict[str, Any]]:
    """The prompts whose routing is read: the first of each kind by id, so that they are drawn from all files alike."""
    found = []
    for label in ("safe", "unsafe", "benign", "control"):
        of_kind = [row for row in rows if row["label"] == label and not row["reattack"]]
        found += sorted(of_kind, key=lambda row: row["prompt_id"])[:at_most]
    return found


def _packed(kind: str, rows: Sequence[dict[str, Any]], sizes: list[int], budget: int) -> Iterator[pa.Table]:
    for group in pack(sizes, budget):
        yield _table(kind, [rows[place] for place in group.tolist()])


def _table(kind: str, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([row | {"kind": kind} for row in rows], schema=PLAN_SCHEMA)
