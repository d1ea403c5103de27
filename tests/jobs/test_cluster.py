"""The Ray of this machine lets in who has its token, and nobody else."""

import os
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from moe_safety.config import ModelJob
from moe_safety.errors import InputError, RunError

pytestmark = pytest.mark.usefixtures("ray_here")

JOIN = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False); print(ray.get(ray.put('in')))"


def join(token):
    import ray

    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_AUTH_TOKEN": token}
    return subprocess.run(
        [sys.executable, "-c", JOIN, address], env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_stranger_is_not_let_in():
    assert join(os.environ["RAY_AUTH_TOKEN"]).stdout.strip() == "in"
    stranger = join(secrets.token_hex(32))
    assert stranger.returncode != 0
    assert "in" not in stranger.stdout.split()


@pytest.mark.parametrize(("here", "later", "gpus"), [({}, None, 0), ({"GPU": 4}, None, 4), ({}, {"GPU": 16}, 16)])
def test_gpus_that_the_autoscaler_may_bring_count(here, later, gpus, monkeypatch):
    """A cluster at rest has a small head alone, and must not take that for all there will be."""
    from moe_safety.jobs import cluster

    monkeypatch.setattr(cluster.ray, "cluster_resources", lambda: {"CPU": 2.0, **here})
    monkeypatch.setattr(cluster.state, "get_max_resources_from_cluster_config", lambda: later)
    job = ModelJob(gpus_per_replica=2)
    assert cluster.most("GPU") == gpus
    assert cluster.gpus_per_replica(job) == (2 if gpus else 0)
    assert cluster.replicas(job, items=100) == (gpus // 2 or 2)
    assert cluster.groups_of_workers(2) == (gpus // 2 or 1)
    assert cluster.gpus_of_workers(4 if gpus else 2) == bool(gpus)
    there = f"a GPU each, and the cluster has {gpus}" if gpus else "a CPU each, and the cluster has 2"
    with pytest.raises(InputError, match=f"asks for 17 workers with {there}"):
        cluster.gpus_of_workers(17)


def test_a_cluster_that_does_not_answer_is_named_soon_and_given_up(monkeypatch, capsys):
    """Nothing listens on the port, or something that says nothing, or is not Ray."""
    import ray

    from moe_safety.jobs import cluster

    there = ray.get_runtime_context().gcs_address
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
        monkeypatch.setattr(cluster, "_PATIENCE", 2.0)
        with pytest.raises(RunError, match=f"no Ray cluster at {address}: .*refused"):
            cluster.connect()
        assert capsys.readouterr().err == f"waiting for the Ray cluster at {address}\n"
        taken.listen()
        with pytest.raises(RunError, match=f"no Ray cluster at {address}: .*timed out"):
            cluster.connect()
        threading.Thread(target=_answer, args=(taken, b"HTTP/1.1 400 Bad Request"), daemon=True).start()
        with pytest.raises(RunError, match=f"no Ray cluster at {address}: what listens there is not Ray"):
            cluster.connect()
    cluster._wait_for(there)
    cluster._wait_for(f"ray://{there}")
    cluster._wait_for("auto")


def _answer(listening, said):
    with suppress(OSError):
        while True:
            caller, _ = listening.accept()
            caller.sendall(said)
