"""The actors that handle work items, and the driver's side of them."""

from __future__ import annotations

import gc
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.data import ActorPoolStrategy

from moe_safety.errors import InputError, MoeSafetyError, RunError
from moe_safety.jobs.cluster import connect, gpus_per_replica, replicas
from moe_safety.jobs.halving import Halving
from moe_safety.jobs.job import Handler, Job
from moe_safety.jobs.parts import Parts
from moe_safety.jobs.plan import Plan
from moe_safety.jobs.progress import Progress
from moe_safety.jobs.watchdog import Watchdog, forget_attempts
from moe_safety.rundir import RunDir


def handle(jobs: Sequence[Job], todo: list[dict[str, int]], name: str) -> float:
    """Every item of `todo`, by one pool of actors; returns the tokens per second."""
    connect()
    for job in jobs:
        forget_attempts(job.parts)
    resources = jobs[0].resources
    gpus = gpus_per_replica(resources)
    works = [Work(job.plan.name, (job.parts.folder, *job.parts.beside), job.build) for job in jobs]
    results = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        Actor,
        fn_constructor_args=(jobs[0].plan.run, works, resources.item_timeout),
        batch_size=1,
        compute=ActorPoolStrategy(size=replicas(resources, len(todo))),
        num_gpus=gpus or None,
        num_cpus=1,
    )
    with Progress(name, len(todo)) as progress:
        try:
            for row in results.iter_rows():
                if row["error"]:
                    _raise(row["error"], row["message"])
                progress.advance(int(row["rows"]), int(row["tokens"]))
        except ray.exceptions.RayError as error:
            raise RunError(f"Ray gave up: {str(error).strip().splitlines()[-1]}") from error
        return progress.rates(time.monotonic())[1]


def _raise(kind: str, message: str) -> None:
    raise InputError(message) if kind == InputError.__name__ else RunError(message)


@dataclass(frozen=True)
class Work:
    """A job as actors need it."""

    plan: str
    folders: tuple[str, ...]
    build: Callable[[], Handler]


class Actor:
    """Lives in a Ray worker with its model. Errors travel as results, so that Ray adds no pages of its own to them."""

    def __init__(self, run: RunDir, works: Sequence[Work], item_timeout: float | None) -> None:
        # Work is spread by replicas; one thread each keeps sums, and so results, the same on any machine.
        torch.set_num_threads(1)
        self.parts = [Parts(run, work.folders[0], Plan(run, work.plan), *work.folders[1:]) for work in works]
        self.builds = [work.build for work in works]
        self.item_timeout = item_timeout
        self.held: tuple[int, Handler] | None = None

    def handler(self, job: int) -> Handler:
        """The one model at hand is that of the job that was worked on last."""
        if self.held is None or self.held[0] != job:
            self.held = None
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.held = job, self.builds[job]()
        return self.held[1]

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        item, parts = int(batch["item"][0]), self.parts[int(batch["job"][0])]
        result = {"item": item, "rows": 0, "tokens": 0, "error": "", "message": ""}
        try:
            _check_shared(parts)
            with Watchdog(parts, item, self.item_timeout) as watchdog:
                handler = self.handler(int(batch["job"][0]))
                rows = parts.plan.rows(item)
                notes: dict[str, Any] = dict(watchdog.notes)
                parts.commit(item, Halving(parts, item, handler, notes)(rows), notes)
            result |= {"rows": len(rows), "tokens": handler.tokens(rows)}
        except MoeSafetyError as error:
            result |= {"error": type(error).__name__, "message": str(error)}
        except Exception as error:  # The boundary of the process: whatever it was, the driver tells it.
            log = f"{parts.folder}/_errors/part-{item:06d}.txt"
            parts.run.write_bytes(log, traceback.format_exc().encode())
            line = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
            result |= {"error": RunError.__name__, "message": f"{parts.run.path(log)}: {line}"}
        return {name: [value] for name, value in result.items()}


def _check_shared(parts: Parts) -> None:
    if not parts.run.exists(parts.plan.name):
        where = f"is not seen from {socket.gethostname()}; hosts work together in a folder that all share, or on s3://"
        raise InputError(where, file=parts.run.path(parts.plan.name), key="run_dir")
