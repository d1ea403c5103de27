"""Finds the Ray cluster, or starts one on this machine, and says how many replicas it holds."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import ray
from ray._private.state import state
from ray._private.utils import read_ray_address
from ray.data import DataContext

from moe_safety.config import ModelJob
from moe_safety.errors import InputError, RunError
from moe_safety.rundir import spent
from moe_safety.stopping import own_handlers


def connect() -> None:
    """Joins the cluster that RAY_ADDRESS names (a submitted job has it set), or one that `ray start` began on this
    machine, else starts Ray here. Idempotent."""
    if not ray.is_initialized():
        # Quiet where nothing is wrong, and no usage report to anyone.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # A caller's process waits for the next job, which else would start and import anew after a second.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
        if address := os.environ.get("RAY_ADDRESS") or read_ray_address():
            _wait_for(address)
        else:
            # Ray listens on every interface, and whoever it lets in can run code: it asks for a token, which would go
            # into the home folder if this one, of this process and its children alone, did not stand there already.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            with spent("ray"), _no_stderr(), own_handlers():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except ConnectionError as error:
            raise _no_cluster(address or "this machine", error) from None
        except Exception as error:
            # Ray has no class of its own for a start that fails, as on a machine that is too busy.
            raise RunError(f"Ray did not start: {' '.join(str(error).split())}") from error
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Nothing may be dropped in silence: the first item that fails ends the job.
    context.max_errored_blocks = 0
    logging.getLogger("ray.data").setLevel(logging.ERROR)


_PATIENCE = 30.0
"""Seconds in which a cluster answers, or is given up: Ray itself would wait for minutes, and not say for what."""
_SILENCE = 3.0
"""Seconds after which it is said what is waited for."""


_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What HTTP/2, which Ray speaks, begins with: a client's settings, here none. A server answers with its own."""


def _wait_for(address: str) -> None:
    """Returns when somebody there answers as Ray does. Words such as `auto` are left to Ray."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    begun, told = time.monotonic(), False
    while port.isdigit():
        left = begun + _PATIENCE - time.monotonic()
        try:
            with socket.create_connection((host.strip("[]"), int(port)), min(_SILENCE, max(left, 0.1))) as asked:
                if os.environ.get("RAY_USE_TLS", "0") not in ("0", "false"):
                    return
                asked.sendall(_GREETING)
                # Three bytes of length, and the kind of what follows: settings.
                if asked.recv(4)[3:] == b"\x04":
                    return
                raise ConnectionError("what listens there is not Ray")
        except (OSError, OverflowError) as error:
            if left <= 0:
                raise _no_cluster(address, error) from None
        if not told and time.monotonic() > begun + _SILENCE / 2:
            print(f"waiting for the Ray cluster at {address}", file=sys.stderr, flush=True)
            told = True
        time.sleep(0.5)


def _no_cluster(address: str, error: Exception) -> RunError:
    # `ray start` leaves a note of its cluster, which outlives one that was killed.
    noted = "" if "RAY_ADDRESS" in os.environ else " any more (`ray stop` forgets it)"
    return RunError(f"no Ray cluster at {address}{noted}: {error}")


def most(resource: Literal["CPU", "GPU"]) -> int:
    """How many the cluster has, or its autoscaler may bring: one that is at rest may stand there without a GPU."""
    later = state.get_max_resources_from_cluster_config() or {}
    return int(max(ray.cluster_resources().get(resource, 0), later.get(resource, 0)))


def gpus_of_workers(size: int) -> int:
    """GPUs that each of so many training workers takes: one, on a cluster that has any. Ray would wait for ever for
    workers that find no place."""
    kind: Literal["CPU", "GPU"] = "GPU" if most("GPU") else "CPU"
    if 0 < (there := most(kind)) < size:
        raise InputError(
            f"asks for {size} workers with a {kind} each, and the cluster has {there}", key="train.num_workers"
        )
    return int(kind == "GPU")


def groups_of_workers(size: int) -> int:
    """How many groups of so many training workers find places at once, a GPU each where there are any."""
    return max(1, (most("GPU") or most("CPU")) // size)


def gpus_per_replica(job: ModelJob) -> int:
    """GPUs one replica takes on this cluster: none where there are none."""
    return job.gpus_per_replica if most("GPU") else 0


def replicas(job: ModelJob, items: int) -> int:
    """How many replicas to start for `items` work items; `auto` fills the cluster."""
    if job.replicas != "auto":
        wanted = job.replicas
    else:
        gpus = gpus_per_replica(job)
        wanted = most("GPU") // gpus if gpus else most("CPU")
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
