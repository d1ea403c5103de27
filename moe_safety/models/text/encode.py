"""Rows of tokens: answers, the span of one that counts, and rows of unequal length in one rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Limits:
    """How many tokens a model may say. Thinking is not counted as part of the answer."""

    answer: int
    thinking: int = 0


@dataclass(frozen=True)
class Answer:
    """What a model said to a prompt, as tokens."""

    prefix: list[int]
    """What stands before the answer: its thinking, and the marks around it."""
    tokens: list[int]
    """The answer, without the end-of-turn token."""
    ended: bool
    """Whether the model ended it; else it ran into a limit."""


def answer_span(tokens: Sequence[int], *, ended: bool, end: int, at_most: int) -> list[int]:
    """What is counted of an answer, and learned of a target: its first tokens and, where it ended there, the
    end-of-turn token."""
    return [*tokens, end] if ended and len(tokens) <= at_most else list(tokens[:at_most])


@dataclass(frozen=True)
class Padded:
    """Rows of unequal length in one rectangle, padded on the left."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor

    @property
    def position_ids(self) -> torch.Tensor:
        """Positions counted from each row's first real token."""
        return (self.attention_mask.cumsum(dim=1) - 1).clamp(min=0)


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device | str = "cpu") -> Padded:
    """The rows as one tensor and its attention mask, padded on the left."""
    import torch

    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        start = width - len(row)
        ids[place, start:] = torch.as_tensor(row)
        mask[place, start:] = 1
    return Padded(ids.to(device), mask.to(device))


def pad_right(rows: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> torch.Tensor:
    """Token ids in one rectangle. A causal model cannot see what stands behind a row's end, so that needs no mask."""
    import torch

    ids = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.as_tensor(row)
    return ids.to(device)
