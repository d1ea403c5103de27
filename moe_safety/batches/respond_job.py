"""The job of `respond`: the base model answers prompts, and is asked how likely it finds answers that files record."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from moe_safety.config import RespondConfig
from moe_safety.generation import Ability, Engine, Opening
from moe_safety.generation.answers import prompt_seed
from moe_safety.generation.items import (
    ANSWERS,
    PLAN_SCHEMA,
    ItemHandler,
    Kind,
    answer_prompts,
    given_answers,
    items_to_answer,
)
from moe_safety.jobs import Plan
from moe_safety.models.text import answer_span

RECORDED = "recorded"
"""The kind of items of attacks whose recorded answers are weighed beside the model's own."""
WEIGHED_SCHEMA = pa.schema([("prompt_id", pa.string()), ("own_nats", pa.float64()), ("recorded_nats", pa.float64())])
"""Nats per token of the spans of both answers."""


def write_plan(
    plan: Plan,
    asked: Sequence[dict[str, Any]],
    weighed: Sequence[dict[str, Any]],
    opening: Opening,
    settings: RespondConfig,
    *,
    seed: int,
    identity: str,
) -> None:
    """`asked` are prompts to answer, with their tokens; `weighed` attacks with a recorded answer, encoded."""

    def rows(prompts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "prompt_id": prompt["prompt_id"],
                "tokens": prompt["prompt_tokens"],
                "temperature": settings.temperature if prompt["label"] in ("safe", "unsafe") else 0.0,
                "seed": prompt_seed(seed, prompt["prompt_id"]),
                "prefix": prompt.get("answer_prefix", []),
                "answer": prompt.get("answer_tokens", []),
            }
            for prompt in prompts
        ]

    items: list[pa.Table] = []
    for kind, prompts in ((ANSWERS, asked), (RECORDED, weighed)):
        items += items_to_answer(kind, rows(prompts), opening, settings.max_tokens_per_forward)
    plan.write(items, PLAN_SCHEMA, identity)


def handler(opening: Opening, max_answer: int) -> ItemHandler:
    """What a replica of `respond` does with items."""
    return ItemHandler(opening, {RECORDED: Kind(partial(_weigh, max_answer), Ability.GIVES_LOSSES)})


def _weigh(max_answer: int, engine: Engine, rows: pa.Table) -> pa.Table:
    """The engine's own answers to these prompts are weighed as the recorded ones are, as far as answers are counted."""
    prompts, own = rows["tokens"].to_pylist(), answer_prompts(engine, rows)
    before = [[*prompt, *answer.prefix] for prompt, answer in zip(prompts, own, strict=True)]
    end = engine.chat.end
    spans = [answer_span(answer.tokens, ended=answer.ended, end=end, at_most=max_answer) for answer in own]
    nats = {"own_nats": _nats(engine, before, spans), "recorded_nats": _nats(engine, *given_answers(rows))}
    return pa.table({"prompt_id": rows["prompt_id"].combine_chunks(), **nats}, schema=WEIGHED_SCHEMA)


def _nats(engine: Engine, before: Sequence[list[int]], spans: Sequence[list[int]]) -> list[float | None]:
    """How unlikely the model finds each answer, per token; nothing of an empty one."""
    from moe_safety.models.text.answer_losses import mean_by_row

    means = mean_by_row(*engine.losses(before, spans), len(spans)).tolist()
    return [mean if span else None for mean, span in zip(means, spans, strict=True)]
