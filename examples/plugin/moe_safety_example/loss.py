"""A loss: the focal loss (Lin et al., arXiv 1708.02002) of answer tokens, which spends itself on those that the model
still gets wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from moe_safety.arms import ForwardPass, Loss
from moe_safety.config import Section

if TYPE_CHECKING:
    import torch


class Focus(Section):
    gamma: float = Field(2.0, ge=1)
    """How much less a token counts that the model finds likely."""


def focal(passed: ForwardPass) -> torch.Tensor:
    """An arm without settings of this kind gets the defaults."""
    gamma = passed.own.gamma if isinstance(passed.own, Focus) else Focus().gamma
    losses = passed.now.losses
    return ((1 - losses.neg().exp()) ** gamma * losses).sum()


FOCAL = Loss("focal", "the mean of -(1 - p)^gamma log p over the target tokens of a batch", focal)
