"""A Ray cluster of several nodes on this machine, whose nodes can be lost without grace."""

import os
import secrets
import shutil
import tempfile
import time
from contextlib import contextmanager

import psutil
import pytest

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
PATIENCE = 540
"""Seconds that a test waits for something to happen on a busy machine."""


class Nodes:
    """Nodes of one core each. The driver stands on the first, which is never lost.

    Nodes are started and lost in the test's own thread, as Ray wants it; the work meanwhile runs in another.
    """

    def __init__(self, count):
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args=NODE)
        for _ in range(count - 1):
            self.add()

    def add(self):
        self.cluster.add_node(**NODE)

    def lose(self, role):
        """A node that has a worker of that name on it is gone at once, with everything that ran there."""
        node = wait_for(lambda: next((each for each in self.cluster.worker_nodes if has(each, role)), None))
        gone = processes(node)
        for process in gone:
            process.kill()
        psutil.wait_procs(gone)
        self.cluster.remove_node(node, allow_graceful=False)


def processes(node):
    """Its raylet first, then everything that the raylet started."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [raylet, *raylet.children(recursive=True)]


def has(node, role):
    for process in processes(node):
        try:
            if role in " ".join(process.cmdline()):
                return True
        except psutil.Error:  # It ended while it was looked at.
            continue
    return False


def wait_for(found):
    """What `found` returns, once it is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.02)
    raise TimeoutError


@contextmanager
def several_nodes(count=3):
    """Inside, `connect` joins the cluster as a submitted job does, by RAY_ADDRESS."""
    import ray

    from moe_safety.jobs.cluster import connect

    ray.shutdown()  # An earlier test may have started one.
    # Ray reads its token once in a process, so the one that an earlier test has set stays.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Short, since the paths of Ray's sockets have a limit; its own, or every `ray.init` here would find this cluster.
    folder = tempfile.mkdtemp(prefix="moe-", dir="/tmp")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_TMPDIR", folder)
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # How soon Ray notices that a node is gone.
        environment.setenv("RAY_health_check_period_ms", "500")
        environment.setenv("RAY_health_check_failure_threshold", "3")
        nodes = Nodes(count)
        try:
            environment.setenv("RAY_ADDRESS", nodes.cluster.address)
            connect()
            yield nodes
        finally:
            ray.shutdown()
            nodes.cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
