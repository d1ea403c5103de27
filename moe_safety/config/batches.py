"""`batches`: the mixed batches of analysis and training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from moe_safety.config.base import Section


class BatchesConfig(Section):
    """The section `batches`: the composition of mixed batches."""

    batch_size: int = Field(16, ge=2)
    """Safe and unsafe prompts of a batch together."""
    safe_ratio: float = Field(0.5, ge=0, lt=1)
    """Share of them that is safe."""
    benign_per_batch: int = Field(0, ge=0)
    """Benign prompts on top."""
    control_per_batch: int = Field(0, ge=0)
    """Control prompts on top."""
    num_batches: int | None = Field(None, ge=1)
    """How many batches; all that can be filled unless given."""
    group_by: Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1)] | None = None
    """A column of the attacks' files, such as `category`, `difficulty` or `source`: each batch is filled from rows that
    have the same there. `source` is the file where files have no such column."""
    partial: Literal["keep", "drop"] = "keep"
    """What becomes of pairs that do not fill a batch: `keep` makes a smaller one of them, `drop` leaves them out."""
    max_length: int = Field(2048, ge=8)
    """Longest row in tokens: the prompt, what its template writes before an answer, and the longer of answer and
    target. No prompt is cut: a longer row is left out with its pair."""
    max_answer: int = Field(128, ge=1)
    """Tokens of an answer that are counted, and of a target that are learned: its first ones."""

    @property
    def safe_per_batch(self) -> int:
        """Safe rows of a batch; halves round to the even number, as Python's `round` does."""
        return round(self.batch_size * self.safe_ratio)

    @property
    def unsafe_per_batch(self) -> int:
        """The number of unsafe prompts in a full batch."""
        return self.batch_size - self.safe_per_batch

    @property
    def harmless(self) -> list[str]:
        """The kinds of harmless rows that a batch has on top."""
        counts = {"benign": self.benign_per_batch, "control": self.control_per_batch}
        return [label for label, count in counts.items() if count]

    @model_validator(mode="after")
    def _some_unsafe(self) -> BatchesConfig:
        if self.unsafe_per_batch == 0:
            raise ValueError(f"safe_ratio {self.safe_ratio} leaves no unsafe row in a batch of {self.batch_size}")
        return self
