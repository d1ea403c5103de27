"""The one distributed pattern: a plan of work items, actors that handle them, an atomically written part for each.

Where every part stands, neither Ray nor torch is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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


@dataclass(frozen=True)
class Job:
    plan: Plan
    parts: Parts
    build: Callable[[], Handler]
    """Runs once in each actor."""
    resources: ModelJob


@dataclass(frozen=True)
class Report:
    """How a job went."""

    notes: dict[str, Any]
    """What items had to say, by item."""
    tokens_per_second: float | None
    """From the first finished item to the last; nothing where everything stood already."""


def run_job(job: Job) -> Report:
    """Handles every unfinished item. Safe to run again after any interruption."""
    (report,) = run_jobs([job], job.parts.folder)
    return report


def run_jobs(jobs: Sequence[Job], name: str) -> list[Report]:
    """Several jobs of one run directory by one pool of actors, which saves starting a pool for each. An actor holds the
    model of one job at a time; the first job says what a replica takes. `name` is for the progress line."""
    todo = []
    for number, job in enumerate(jobs):
        job.parts.remove_strangers()
        todo += [{"job": number, "item": item} for item in job.parts.unfinished()]
    speed = None
    if todo:
        from moe_safety.jobs.handle import handle

        speed = handle(jobs, todo, name)
    return [Report(job.parts.notes(), speed) for job in jobs]
