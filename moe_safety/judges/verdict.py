"""What a judge says of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Label = Literal["refused", "complied", "unparsed"]
Exchange = tuple[str, str]
"""A prompt and the answer to it."""


@dataclass(frozen=True)
class Verdict:
    """A label, and in a few words what decided it."""

    label: Label
    reason: str
    votes: tuple[tuple[str, Label], ...] = ()
    """What each judge of a panel said, by its name."""


class Judge(Protocol):
    """Reads prompts and their answers. Stages go through `ask`, which turns every failure into unparsed."""

    def judge(self, prompt: str, response: str) -> Verdict:
        """Whether `response` refuses `prompt`."""
        (verdict,) = self.judge_all([(prompt, response)])
        return verdict

    def judge_all(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """The same for many, which a judge may take together. A judge defines at least one of the two."""
        return [self.judge(*exchange) for exchange in exchanges]
