"""The loss of answers, unsafe prompts read twice: as they are, and with the first tokens of the answer that they got. A
refusal that is found again in mid-answer is more than a few tokens deep (Qi et al. 2024, arXiv 2406.05946)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from moe_safety.arms.loss import Loss
from moe_safety.arms.losses.answers import summed
from moe_safety.batches import Example
from moe_safety.config import LOSSES

DEEPEST = 100
"""Tokens of the answer that stand before a refusal, at most; how many is drawn for each row."""


def twice(row: Example) -> Sequence[Example]:
    """The row, and where an attack was answered, the same after the answer's opening. No token of that is learned."""
    if row.label != "unsafe" or len(row.answer) < 2 or not row.target:
        return (row,)
    # The last token of an answer that ended is the end of its turn, behind which nothing is ever said.
    depth = Random(f"{row.batch_idx}:{row.in_batch_idx}").randint(1, min(DEEPEST, len(row.answer) - 1))
    return (row, replace(row, prompt=[*row.before_answer, *row.answer[:depth]]))


def tokens(row: Example) -> int:
    """The learned tokens of all that is read in place of the row."""
    return sum(len(one.target) for one in twice(row))


RECOVERY = LOSSES.add(
    Loss(
        "recovery",
        "the mean of -log p over target tokens, unsafe targets also after the first tokens of the answer that was got",
        summed,
        reads=twice,
        counts=tokens,
    )
)
