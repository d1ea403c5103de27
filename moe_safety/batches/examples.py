"""A place of a mixed batch, as training reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Example:
    """One place of a batch."""

    batch_idx: int
    in_batch_idx: int
    label: str
    prompt: list[int]
    """The tokens before the target: the prompt, and what its template writes before an answer."""
    target: list[int]
    """The tokens to learn; none where the row has no target."""
    before_answer: list[int] = field(default_factory=list)
    """The tokens before the answer that the prompt got: other than `prompt` where the model thought first."""
    answer: list[int] = field(default_factory=list)
    """The tokens of that answer; none where there is none."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.target)


@dataclass(frozen=True)
class Batch:
    """One mixed batch."""

    batch_idx: int
    examples: Sequence[Example]
    weight: float = 1.0
    """How much its loss counts."""
    done: float = 0.0
    """The share of the phase's steps that were done before it is trained."""

    def of(self, label: str) -> list[Example]:
        """The examples of one label, in order."""
        return [example for example in self.examples if example.label == label]
