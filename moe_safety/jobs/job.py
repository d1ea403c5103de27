"""What a stage brings to the shared pattern: its plan, its parts, and what handles one work item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from moe_safety.config import ModelJob
from moe_safety.jobs.parts import Part, Parts
from moe_safety.jobs.plan import Plan


class Handler(Protocol):
    """What a stage brings: a model loaded once, and a function from an item's rows to its part.

    `divisible` says that the parts of an item's halves, put together, are the item's part. `notes` takes what a user
    should know of how the item went.
    """

    divisible: bool

    def __call__(self, rows: pa.Table, notes: dict[str, Any]) -> Part: ...

    def tokens(self, rows: pa.Table) -> int:
        """For the progress line."""


@runtime_checkable
class Joining(Handler, Protocol):
    """A handler that gains from several items at once."""

    def together(self, items: Sequence[pa.Table]) -> Sequence[Part] | None:
        """The part of each, as it would be alone; nothing where the items have to be handled one by one."""


@runtime_checkable
class InTurn(Handler, Protocol):
    """A handler that takes up the next item before it has done with the last."""

    def in_turn(self, items: Sequence[pa.Table]) -> Iterator[Part]:
        """The part of each, in their order, as it would be alone."""


def _a_dozen(item: int) -> int:
    return 12


@dataclass(frozen=True)
class Job:
    """A stage's work: what is to be done, where it goes, and by what."""

    plan: Plan
    parts: Parts
    build: Callable[[], Handler]
    """Runs once in each actor."""
    resources: ModelJob
    at_once: Callable[[int], int] = _a_dozen
    """How many items like this one a replica with a card is given at once: its card need not wait between them for what
    is read, written and told of each."""
