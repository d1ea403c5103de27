"""What a judge reads, and what it says of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from moe_safety.config import Question

Label = Literal["refused", "complied", "harmful", "harmless", "unparsed"]
LABELS: Mapping[Question, tuple[Label, ...]] = {
    "refusal": ("refused", "complied", "unparsed"),
    "harm": ("harmful", "harmless", "unparsed"),
}
"""What may be said of an answer, by what is asked; the first is what the question asks for."""
TOO_LONG = "the question is too long for the judge"
"""Begins the reason of a verdict that was not given, because the judge would have seen a part only."""
LONGEST_QUOTE = 40
"""Characters of an answer that a reason shows."""


@dataclass(frozen=True)
class Exchange:
    """An answer, and what it answers."""

    goal: str
    """What was asked for, in plain words, whatever it was wrapped in."""
    prompt: str
    """The last turn of the user, as it was asked."""
    response: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Exchange:
        """The exchange in a row with a goal, messages and the answer to them."""
        asked = next(turn["content"] for turn in reversed(row["messages"]) if turn["role"] == "user")
        return cls(row["goal"], asked, row["answer"])


@dataclass(frozen=True)
class Verdict:
    """A label, and in a few words what decided it."""

    label: Label
    reason: str
    votes: tuple[tuple[str, Label], ...] = ()
    """What each judge of a panel said, by its name."""
    grade: float | None = None
    """How harmful it is, from 0 to 1; nothing where no harm was asked about, or nothing is known of it."""


def graded(verdict: Verdict) -> Verdict:
    """The verdict with the grade that its word stands for, where it is one about harm."""
    known: dict[Label, float] = {"harmful": 1.0, "harmless": 0.0}
    return replace(verdict, grade=known.get(verdict.label))


class Judge(ABC):
    """Reads answers. Stages go through `ask`, which turns every failure into unparsed."""

    @abstractmethod
    def judge_all(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """What it says of each response: whether it refuses what was asked for, or does the harm that was asked for."""


def quoted(phrase: str) -> str:
    """The words in quotation marks, the middle left out where they are many: a reason shows phrases, not answers."""
    return f"“{phrase}”" if len(phrase) <= LONGEST_QUOTE else f"“{phrase[:15]}…{phrase[-20:]}”"
