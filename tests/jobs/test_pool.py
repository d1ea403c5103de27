"""Replicas stay from one job to the next, and go when somebody else needs what they hold."""

import os
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
import ray

from moe_safety.config import ModelJob
from moe_safety.errors import InputError, RunError
from moe_safety.jobs import beside, pool
from moe_safety.jobs.pool import pool_of, release_replicas
from moe_safety.jobs.replica import Replica
from tests.jobs.handlers import die_once, refuse
from tests.jobs.waits import workers

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture
def fresh():
    """Neither replicas from before nor for those who come after. Other tests go on with what is there: a replica takes
    seconds to start."""
    release_replicas()
    yield
    release_replicas()


@pytest.fixture(scope="module", autouse=True)
def none_left():
    yield
    release_replicas()


def test_replicas_stay_from_one_job_to_the_next_until_they_are_given_back(tmp_path, fresh):
    first = workers(tmp_path / "first")
    assert len(first) == 2
    assert workers(tmp_path / "second") == first
    assert len(workers(tmp_path / "third", replicas=1)) == 1
    until = time.monotonic() + 30
    while (phase := ray.get(pool_of(0).phase.remote())) != "working":
        assert time.monotonic() < until, phase
        time.sleep(0.1)
    assert ray.available_resources().get("CPU", 0) == 0
    release_replicas()
    assert not [pid for pid in first if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    until = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert not workers(tmp_path / "fourth", replicas=1) & first


def test_a_replica_is_lent_to_what_wants_a_process(tmp_path, fresh):
    before = workers(tmp_path / "first", replicas=1)
    there = pool_of(0)
    assert ray.get(there.lend.remote(1, os.getpid)) in before
    with pytest.raises(ZeroDivisionError):
        ray.get(there.lend.remote(3, divmod, 1, 0))
    assert ray.get(there.lend.remote(2, die_once, str(tmp_path / "died"))) not in before
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(there.lend.remote(1, die_once, str(tmp_path / "again")))
    assert not workers(tmp_path / "second", replicas=1) & before


class Here:
    """Pickled by the name of a module that workers cannot import."""

    divisible = True

    def __call__(self, rows, notes):
        return rows

    def tokens(self, rows):
        return 1


def test_what_a_worker_lacks_is_one_line(tmp_path):
    lacking = "lacks what this job needs: ModuleNotFoundError: No module named 'test_pool'; install it on every host"
    with pytest.raises(InputError, match=lacking):
        workers(tmp_path, replicas=1, handler=Here)


def test_a_process_that_met_a_bug_does_no_other_job(tmp_path):
    before = workers(tmp_path / "first", replicas=1)
    with pytest.raises(RunError, match="a bug"):
        workers(tmp_path / "second", replicas=1, broken=True)
    assert not workers(tmp_path / "third", replicas=1) & before


def test_what_is_warned_of_reaches_the_user_once_a_job(tmp_path, capsys):
    """Ray keeps to itself what a replica logs."""
    for name in ("first", "second"):
        workers(tmp_path / name, warning="answers come slowly: no card")
        assert capsys.readouterr().err.splitlines().count("who: answers come slowly: no card") == 1


def test_why_a_replica_does_not_start_is_one_line(tmp_path):
    """As on a host without torch."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    replica = ray.remote(Replica).options(num_cpus=0, runtime_env={"env_vars": {"PYTHONPATH": path}}).remote()
    with pytest.raises(ray.exceptions.RayActorError) as error:
        ray.get(replica.place.remote())
    lacking = "lacks what this job needs: ModuleNotFoundError: No module named 'torch'; install it on every host"
    assert str(pool._told(error.value)) == f"a worker {lacking}"


def test_another_session_of_ray_has_a_pool_of_its_own_that_starts_beside_a_check(tmp_path):
    """Its jobs have the same numbers as those of the last. What is wrong is told by the check, and the replica, whose
    own check goes wrong too, is there all the same."""
    before = workers(tmp_path / "first", replicas=1)
    ray.shutdown()
    with pytest.raises(InputError, match="is no good"):
        beside(refuse, ModelJob())()
    there = pool_of(0)
    ray.get(there.ready.remote())
    process = ray.get(there.lend.remote(1, os.getpid))
    assert process not in before | {os.getpid()}
    assert workers(tmp_path / "second", replicas=1) == {process}


def test_replicas_that_were_ended_before_the_first_item_come_back(tmp_path, fresh, monkeypatch):
    """On a busy host an item may be longer on its way than replicas wait."""
    monkeypatch.setattr(pool, "IDLE", 0.0)
    assert workers(tmp_path / "first", replicas=1)


def test_replicas_that_nobody_needs_give_way(tmp_path, fresh, monkeypatch):
    """A command that joins the cluster of another says what it waits for, and gets its turn."""
    monkeypatch.setattr(pool, "IDLE", 3.0)
    script = f"""
    from pathlib import Path
    import moe_safety.jobs.handle as handle
    from tests.jobs.waits import workers
    handle._PATIENCE = 1.0
    workers(Path({str(tmp_path / "second")!r}), replicas=1)
    """
    workers(tmp_path / "first")
    address = ray.get_runtime_context().gcs_address
    command, told = [sys.executable, "-c", textwrap.dedent(script)], tmp_path / "told.txt"
    with open(told, "w") as stderr:
        second = subprocess.Popen(command, env=os.environ | {"RAY_ADDRESS": address}, stderr=stderr)
    held = 0
    while "waiting for a processor or a card of the cluster that nobody else holds" not in told.read_text():
        assert second.poll() is None, told.read_text()
        held += 1
        workers(tmp_path / f"first-{held}")
    assert second.wait(timeout=120) == 0, told.read_text()
