"""The one distributed pattern: a plan of work items, actors that handle them, an atomically written part for each.

Where every part stands, neither Ray nor torch is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moe_safety.jobs.job import Job


@dataclass(frozen=True)
class Report:
    """How a job went."""

    notes: dict[str, Any]
    """What items had to say, by item."""
    tokens_per_second: float | None
    """From when the first replica began to work; nothing where everything stood already."""


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
        todo += [(number, item) for item in job.parts.unfinished()]
    speed = None
    if todo:
        from moe_safety.jobs.handle import handle

        speed = handle(jobs, todo, name)
    return [Report(job.parts.notes(), speed) for job in jobs]
