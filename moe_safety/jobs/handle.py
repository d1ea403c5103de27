"""The driver's side of a job: Ray Data spreads its work items over callers, and each hands what it has to a replica."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ray
from ray.data import TaskPoolStrategy

from moe_safety.errors import InputError, RunError, last_line
from moe_safety.jobs.bundles import bundles
from moe_safety.jobs.cluster import connect, gpus_per_replica, replicas
from moe_safety.jobs.job import Job
from moe_safety.jobs.pool import pool_of, release_replicas
from moe_safety.jobs.progress import Progress
from moe_safety.jobs.replica import RemoteJob, result_of
from moe_safety.jobs.watchdog import forget_attempts
from moe_safety.rundir import spent, spent_by_replicas


def handle(jobs: Sequence[Job], todo: Sequence[tuple[int, int]], name: str) -> float:
    """Every item of `todo`, a job's number and an item each, by one pool of replicas; returns the tokens per second."""
    connect()
    for job in jobs:
        forget_attempts(job.parts)
    resources = jobs[0].resources
    remote = [
        RemoteJob(job.plan.run, job.plan.name, (job.parts.folder, *job.parts.beside), job.build, resources.item_timeout)
        for job in jobs
    ]
    gpus, count = gpus_per_replica(resources), replicas(resources, len(todo))
    given = bundles(jobs, todo, count) if gpus else [(job, [item]) for job, item in todo]
    rows, pool = [{"job": job, "items": json.dumps(items)} for job, items in given], pool_of(gpus)
    ray.get(pool.hold.remote(count))
    threading.Thread(target=_say_if_it_waits, args=(pool, name), daemon=True).start()
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _ask,
        fn_args=(pool, uuid.uuid4().hex, [ray.put(remote)]),
        batch_size=1,
        compute=TaskPoolStrategy(size=callers(count, len(rows))),
        # A caller only waits; processors and cards are the replicas'.
        num_cpus=0,
    )
    with spent("waiting"), Progress(name, len(todo), partial(_phase, pool)) as progress, _released_if_it_fails():
        try:
            for row in _at_once(results):
                progress.warn(json.loads(row["warned"]))
                if row["error"]:
                    _raise(row["error"], row["message"])
                progress.advance(int(row["rows"]), int(row["tokens"]), float(row["worked"]), int(row["items"]))
                spent_by_replicas(json.loads(row["spent"]))
        except ray.exceptions.RayError as error:
            raise _given_up(error) from error
        return progress.rates(time.monotonic())[1]


def _at_once(results: ray.data.Dataset) -> Iterator[dict[str, Any]]:
    """Each row when it is there: `iter_rows` holds one back until the next is there too."""
    for block in results.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from block.to_pylist()


def callers(replicas: int, most: int) -> int:
    """How many callers so many replicas have, and at most: of more than it has work for Ray Data would warn. It looks
    for finished ones ten times a second: with one for each replica, that waited as long for its next item, which may
    take less itself."""
    return min(replicas + math.ceil(replicas / 2), most)


@contextmanager
def _released_if_it_fails() -> Iterator[None]:
    """A job that ends early leaves no replica at work on what nobody waits for."""
    try:
        yield
    except BaseException:
        release_replicas()
        raise


def _say_if_it_waits(pool: Any, name: str) -> None:
    """Others may hold what a replica needs, and nobody should wonder what is waited for."""
    with suppress(ray.exceptions.RayError):
        if not ray.wait([pool.ready.remote()], timeout=_PATIENCE)[0]:
            told = "waiting for a processor or a card of the cluster that nobody else holds"
            print(f"{name}: {told}", file=sys.stderr, flush=True)


_PATIENCE = 30.0
"""Seconds."""


def _phase(pool: Any) -> str:
    return ray.get(pool.phase.remote(), timeout=_PATIENCE)


def _ask(batch: dict[str, Any], pool: Any, ticket: str, jobs: list[Any]) -> dict[str, Any]:
    """What became of a bundle. Nothing is raised here: Ray Data would try it again, without end."""
    job, items = int(batch["job"][0]), json.loads(str(batch["items"][0]))
    try:
        result = ray.get(pool.handle.remote(ticket, jobs, job, items))
    except ray.exceptions.RayError as error:
        result = result_of(items, _given_up(error))
    return {name: [value] for name, value in result.items()}


def _given_up(error: Exception) -> RunError:
    return RunError(f"Ray gave up: {last_line(error)}")


def _raise(kind: str, message: str) -> None:
    raise InputError(message) if kind == InputError.__name__ else RunError(message)
