"""What a judge reads, and what it says of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Label = Literal["refused", "complied", "unparsed"]
TOO_LONG = "the question is too long for the judge"
"""Begins the reason of a verdict that was not given, because the judge would have seen a part only."""


@dataclass(frozen=True)
class Exchange:
    """An answer, and what it answers."""

    goal: str
    """What was asked for, in plain words, whatever it was wrapped in."""
    prompt: str
    """The last turn, as it was asked."""
    response: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Exchange:
        """The exchange in a row with a goal, messages and the answer to them."""
        return cls(row["goal"], row["messages"][-1]["content"], row["answer"])


@dataclass(frozen=True)
class Verdict:
    """A label, and in a few words what decided it."""

    label: Label
    reason: str
    votes: tuple[tuple[str, Label], ...] = ()
    """What each judge of a panel said, by its name."""


class Judge(ABC):
    """Reads answers. Stages go through `ask`, which turns every failure into unparsed."""

    @abstractmethod
    def judge_all(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Whether each response refuses what was asked for."""
