"""Which cards, and how many of them, are enough: the smallest shape that each task fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from moe_safety.models.inspection.memory_forecast import Load, capture_memory, training_memory
from moe_safety.models.inspection.sizes import Sizes

CARDS = (24, 48, 80, 141)
"""Gigabytes of the cards that are told of."""
FREE = 0.1
"""The share that is left free: for CUDA, the allocator, communication."""
_MOST = 8


@dataclass(frozen=True)
class Shape:
    """Cards of one worker group or replica, and the settings that make the task fit them."""

    cards: int
    zero_stage: int = 0
    checkpointing: bool = False

    def __str__(self) -> str:
        traits = [f"ZeRO-{self.zero_stage}"] * bool(self.zero_stage) + ["checkpointing"] * self.checkpointing
        return ", ".join([str(self.cards), *traits])


@dataclass(frozen=True)
class Enough:
    """What cards of one size are enough for; none where eight are not."""

    card_gb: float
    capture: Shape | None
    selective: Shape | None
    full: Shape | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return asdict(self)


def enough(sizes: Sizes, load: Load, card_gb: float) -> Enough:
    """The smallest shapes of such cards."""
    room = card_gb * 1e9 * (1 - FREE)
    replica = math.ceil(capture_memory(sizes, load).total / room)
    return Enough(
        card_gb,
        Shape(replica) if replica <= _MOST else None,
        _training(sizes, load, "selective", room),
        _training(sizes, load, "full", room),
    )


def _training(sizes: Sizes, load: Load, task: Literal["selective", "full"], room: float) -> Shape | None:
    for shape in _shapes():
        asked = replace(load, checkpointing=shape.checkpointing)
        if training_memory(sizes, asked, task, shape.zero_stage, shape.cards).total <= room:
            return shape
    return None


def _shapes() -> Iterator[Shape]:
    """The fewest cards first, and of these what takes no time for memory."""
    for cards in (1, 2, 4, _MOST):
        for checkpointing in (False, True):
            yield Shape(cards, 3 if cards > 1 else 0, checkpointing)
