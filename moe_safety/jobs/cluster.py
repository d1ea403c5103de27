"""Finds the Ray cluster, or starts one on this machine, and says how many replicas it holds."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext

from moe_safety.config import ModelJob
from moe_safety.errors import RunError


def connect() -> None:
    """Joins the cluster that RAY_ADDRESS names (a submitted job has it set), else starts Ray here. Idempotent."""
    if not ray.is_initialized():
        # Quiet where nothing is wrong, and no usage report to anyone.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if "RAY_ADDRESS" not in os.environ:
            # Ray listens on every interface, and whoever it lets in can run code: it asks for a token, which would go
            # into the home folder if this one, of this process and its children alone, did not stand there already.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            with _no_stderr():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except ConnectionError as error:
            raise RunError(f"no Ray cluster at {os.environ.get('RAY_ADDRESS')}: {error}") from None
        except Exception as error:
            # Ray has no class of its own for a start that fails, as on a machine that is too busy.
            raise RunError(f"Ray did not start: {' '.join(str(error).split())}") from error
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Nothing may be dropped in silence: the first item that fails ends the job.
    context.max_errored_blocks = 0
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def groups_of_workers(size: int) -> int:
    """How many groups of so many training workers find places at once, a GPU each where there are any."""
    resources = ray.cluster_resources()
    return max(1, int((resources.get("GPU", 0) or resources.get("CPU", 1)) // size))


def gpus_per_replica(job: ModelJob) -> int:
    """GPUs one replica takes on this cluster: none where there are none."""
    return job.gpus_per_replica if ray.cluster_resources().get("GPU", 0) else 0


def replicas(job: ModelJob, items: int) -> int:
    """How many replicas to start for `items` work items; `auto` fills the cluster."""
    if job.replicas != "auto":
        wanted = job.replicas
    else:
        resources, gpus = ray.cluster_resources(), gpus_per_replica(job)
        wanted = int(resources["GPU"] // gpus) if gpus else int(resources.get("CPU", 1))
    return max(1, min(wanted, items))


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Ray's core writes to the descriptor itself; what goes wrong is raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
