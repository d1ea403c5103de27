"""Answers of a model to many prompts, as a job: the same for `respond` and for the evaluation of any arm."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from moe_safety.config import ModelConfig
from moe_safety.jobs import Plan, pack
from moe_safety.models.encode import cut_left, prompt_tokens
from moe_safety.models.load import load_model, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from moe_safety.models.generate import Generator

PLAN_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("temperature", pa.float64()),
        ("seed", pa.int64()),
    ]
)
ANSWERS_SCHEMA = pa.schema([("prompt_id", pa.string()), ("answer", pa.string()), ("answer_tokens", pa.int32())])


@dataclass(frozen=True)
class Limits:
    """How long prompts and answers may be, and how many tokens are worked on at once."""

    max_length: int
    max_new_tokens: int
    max_tokens_per_forward: int


def plan_answers(
    plan: Plan,
    prompts: pa.Table,
    temperatures: Sequence[float],
    tokenizer: PreTrainedTokenizerBase,
    limits: Limits,
    *,
    seed: int,
    identity: str,
) -> None:
    """Packs prompts of like length together. `prompts` has the columns `prompt_id` and `messages`."""
    tokens = [
        cut_left(prompt_tokens(tokenizer, messages), limits.max_length) for messages in prompts["messages"].to_pylist()
    ]
    ids = prompts["prompt_id"].to_pylist()
    rows = pa.table(
        {
            "prompt_id": ids,
            "tokens": tokens,
            "temperature": list(temperatures),
            "seed": [prompt_seed(seed, prompt_id) for prompt_id in ids],
        },
        schema=PLAN_SCHEMA,
    )
    sizes = [len(row) + limits.max_new_tokens for row in tokens]
    groups = pack(sizes, limits.max_tokens_per_forward)
    plan.write((rows.take(pa.array(group)) for group in groups), PLAN_SCHEMA, identity)


def prompt_seed(seed: int, prompt_id: str) -> int:
    """The prompt's own source of chance."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{prompt_id}".encode()).digest()[:7], "big")


@dataclass
class Answerer:
    """Handles one item: a group of prompts that are answered together."""

    model: ModelConfig
    gpus: int
    limits: Limits
    divisible: bool = True
    generator: Generator = field(init=False)

    def __post_init__(self) -> None:
        from moe_safety.models.generate import Generator

        self.generator = Generator(
            load_model(self.model, self.gpus), load_tokenizer(self.model), self.limits.max_new_tokens
        )

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> pa.Table:
        answers = self.generator.answer(
            rows["tokens"].to_pylist(), rows["temperature"].to_pylist(), rows["seed"].to_pylist()
        )
        columns = {
            "prompt_id": rows["prompt_id"].combine_chunks(),
            "answer": [self.generator.text(answer) for answer in answers],
            "answer_tokens": [len(answer) for answer in answers],
        }
        return pa.table(columns, schema=ANSWERS_SCHEMA)

    def tokens(self, rows: pa.Table) -> int:
        return sum(len(row) for row in rows["tokens"].to_pylist()) + len(rows) * self.limits.max_new_tokens
