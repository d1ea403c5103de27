"""The loss of answers: how unlikely the model finds the tokens that it is to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_safety.arms.loss import ForwardPass, Loss
from moe_safety.config import LOSSES

if TYPE_CHECKING:
    import torch


def summed(passed: ForwardPass) -> torch.Tensor:
    """All tokens count alike, whatever row they stand in."""
    return passed.now.losses.sum()


ANSWERS = LOSSES.add(Loss("answers", "the mean of -log p over the target tokens of a batch", summed))
