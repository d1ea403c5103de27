"""Answers in tables, and prompts in groups that are answered together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from moe_safety.models.text import Answer

if TYPE_CHECKING:
    from moe_safety.models.text import Chat

TOKENS = pa.list_(pa.int32())

ANSWER_FIELDS = [
    pa.field("prompt_id", pa.string()),
    pa.field("answer", pa.string()),
    pa.field("ended", pa.bool_()),
    pa.field("thinking", pa.string()),
    pa.field("answer_prefix", TOKENS),
    pa.field("answer_tokens", TOKENS),
]
"""What was said to a prompt: the text of the answer, whether the model ended it, what it thought before, and the tokens
of both."""


def answers_table(chat: Chat, prompt_ids: Sequence[str], answers: Sequence[Answer]) -> pa.Table:
    """A row for each answer."""
    columns = {
        "prompt_id": list(prompt_ids),
        "answer": [chat.text(answer.tokens) for answer in answers],
        "ended": [answer.ended for answer in answers],
        "thinking": [chat.thinking(answer.prefix) for answer in answers],
        "answer_prefix": [answer.prefix for answer in answers],
        "answer_tokens": [answer.tokens for answer in answers],
    }
    return pa.table(columns, schema=pa.schema(ANSWER_FIELDS))


def pack_prompts(sizes: Sequence[int], budget: int, at_most: int) -> list[np.ndarray]:
    """Groups prompts of like length, the longest first: each group's real tokens, those that may be said included, are
    at most `budget`, and its prompts `at_most`, so few that there is work for many replicas. Follows from the sizes
    alone."""
    order = np.argsort(-np.asarray(sizes, dtype=np.int64), kind="stable")
    groups: list[list[int]] = []
    room = 0
    for place in order.tolist():
        if not groups or sizes[place] > room or len(groups[-1]) == at_most:
            groups.append([])
            room = budget
        groups[-1].append(place)
        room -= sizes[place]
    return [np.array(group) for group in groups]


def prompt_seed(seed: int, prompt_id: str) -> int:
    """The prompt's own source of chance."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{prompt_id}".encode()).digest()[:7], "big")
