"""Direct preference optimisation: the refusal preferred over the answer that an attack got, the model before training
as reference (Rafailov et al. 2023, arXiv 2305.18290). Rows without such an answer keep the loss of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from moe_safety.arms.arm import OfArm
from moe_safety.arms.loss import ForwardPass, Loss, TokenLosses
from moe_safety.batches import Example
from moe_safety.config import LOSSES

if TYPE_CHECKING:
    import torch


class Preference(OfArm):
    """Settings of the loss `dpo`."""

    beta: float = Field(0.1, gt=0)
    """How strongly the model is kept near what it was; above 0, so that the refusal is what is preferred."""


def pair(row: Example) -> Sequence[Example]:
    """The row with its refusal, and where an attack was answered, that answer after it."""
    if row.label != "unsafe" or not row.answer or not row.target:
        return (row,)
    return (row, replace(row, prompt=row.before_answer, target=row.answer))


def preferred(passed: ForwardPass) -> torch.Tensor:
    """Of an answered attack -log sigmoid of beta times how far the log-odds of refusal and answer moved; of other rows
    the mean over the target's tokens."""
    from torch.nn.functional import logsigmoid

    place, total = 0, 0 * passed.now.losses.sum()
    for read in passed.read:
        if len(read) == 2:
            moved = _odds(passed.now, place) - _odds(passed.before, place)
            total = total - logsigmoid(passed.own.beta * moved)
        elif read[0].target:
            total = total + passed.now.losses[passed.now.row == place].mean()
        place += len(read)
    return total


def _odds(of: TokenLosses, place: int) -> torch.Tensor:
    """log p of the row at this place minus log p of the row behind it."""
    return of.losses[of.row == place + 1].sum() - of.losses[of.row == place].sum()


DPO = LOSSES.add(
    Loss(
        "dpo",
        "the mean over rows: for an attack that was answered -log sigmoid(beta x how far the log-odds of refusal and"
        " answer moved), for others the mean of -log p over the target's tokens",
        preferred,
        reads=pair,
        counts=lambda row: int(bool(row.target)),
        needs_reference=True,
        disfavours_answers=True,
    )
)
