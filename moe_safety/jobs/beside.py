"""The first replica of a process starts beside what that has to do before it has a work item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moe_safety.config import ModelJob


def beside(check: Callable[[], Any], job: ModelJob) -> Callable[[], Any]:
    """The check of a stage with a job, to be made only where there is work. While it is made here, a replica starts,
    unless there was a job before, and makes it too, to no end but that it then has the modules that the check needs."""

    def checked() -> Any:
        import ray

        from moe_safety.jobs.cluster import connect, gpus_per_replica
        from moe_safety.jobs.pool import pool_of

        if not ray.is_initialized():
            connect()
            pool_of(gpus_per_replica(job)).hold.remote(1, check)
        return check()

    return checked
