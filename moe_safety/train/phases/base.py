"""What the loop asks of a phase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from moe_safety.batches import Batch

Backward = Callable[[torch.Tensor], None]
"""Adds a loss's gradients to those of the step."""


class Phase(Protocol):
    """One kind of step. Under ZeRO every worker must run equally many passes, so a phase says first how many a batch
    takes, and then runs as many as the worker with the most."""

    device: torch.device
    """Where losses are."""

    def passes(self, batch: Batch | None) -> list[int]:
        """Passes of each kind that this batch takes; zeros for no batch."""
        ...

    def run(self, batch: Batch | None, passes: Sequence[int], scale: float, backward: Backward) -> torch.Tensor:
        """Adds the gradients of `scale` times the batch's loss, and returns that loss, still on its device."""
        ...

    def tokens(self, batch: Batch) -> int:
        """Tokens that a model reads for a step of this batch, as often as it reads them."""
        ...

    def active(self, batch_idx: int) -> int:
        """Experts that this batch may move."""
        ...
