"""Answers of a model to many prompts, as a job: the same for `respond` and for the evaluation of any arm."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from moe_safety.batches.encoded import TOKENS
from moe_safety.config import EvaluateConfig, RespondConfig
from moe_safety.models.encode import Limits

if TYPE_CHECKING:
    from moe_safety.models.generate import Answer, Generator

ANSWERS = [
    pa.field("prompt_id", pa.string()),
    pa.field("answer", pa.string()),
    pa.field("ended", pa.bool_()),
    pa.field("thinking", pa.string()),
    pa.field("answer_prefix", TOKENS),
    pa.field("answer_tokens", TOKENS),
]
"""What was said to a prompt: the text of the answer, whether the model ended it, what it thought before, and the tokens
of both."""

PROMPTS_PER_ITEM = 64


def limits_of(settings: RespondConfig | EvaluateConfig) -> Limits:
    """How much a model may say."""
    return Limits(settings.max_new_tokens, settings.max_thinking_tokens)


def answers_table(generator: Generator, prompt_ids: Sequence[str], answers: Sequence[Answer]) -> pa.Table:
    """A row for each answer."""
    columns = {
        "prompt_id": list(prompt_ids),
        "answer": [generator.text(answer.tokens) for answer in answers],
        "ended": [answer.ended for answer in answers],
        "thinking": [generator.chat.thinking(answer.prefix) for answer in answers],
        "answer_prefix": [answer.prefix for answer in answers],
        "answer_tokens": [answer.tokens for answer in answers],
    }
    return pa.table(columns, schema=pa.schema(ANSWERS))


def pack_prompts(sizes: Sequence[int], budget: int) -> list[np.ndarray]:
    """Groups prompts of like length, the longest first: each group's real tokens, those that may be said included, are
    at most `budget`, and its prompts few enough that there is work for many replicas. Follows from the sizes alone."""
    order = np.argsort(-np.asarray(sizes, dtype=np.int64), kind="stable")
    groups: list[list[int]] = []
    room = 0
    for place in order.tolist():
        if not groups or sizes[place] > room or len(groups[-1]) == PROMPTS_PER_ITEM:
            groups.append([])
            room = budget
        groups[-1].append(place)
        room -= sizes[place]
    return [np.array(group) for group in groups]


def prompt_seed(seed: int, prompt_id: str) -> int:
    """The prompt's own source of chance."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{prompt_id}".encode()).digest()[:7], "big")
