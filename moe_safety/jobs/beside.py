"""Ray and a first replica start beside what this process has to do before it has a work item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moe_safety.config import ModelJob


def beside(check: Callable[[], Any], job: ModelJob) -> Callable[[], Any]:
    """The check of a stage with a job. While it runs here, a replica starts and does the same, to no end but that it
    then has the modules that the check needed. To be called only where there is work to do."""

    def checked() -> Any:
        from moe_safety.jobs.cluster import connect_beside

        connect_beside(lambda: _hold(job, check))
        return check()

    return checked


def _hold(job: ModelJob, check: Callable[[], Any]) -> None:
    from moe_safety.jobs.cluster import gpus_per_replica
    from moe_safety.jobs.pool import pool_of

    pool_of(gpus_per_replica(job)).hold.remote(1, check)
