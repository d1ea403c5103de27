"""What a judge says of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Label = Literal["refused", "complied", "unparsed"]


@dataclass(frozen=True)
class Verdict:
    """A label, and in a few words what decided it."""

    label: Label
    reason: str


class Judge(Protocol):
    """Reads one prompt and its answer."""

    def judge(self, prompt: str, response: str) -> Verdict:
        """Whether `response` refuses `prompt`."""
        ...
