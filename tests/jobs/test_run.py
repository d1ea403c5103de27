import subprocess
import sys
import textwrap
import time
from functools import partial

import pyarrow as pa
import pytest

from moe_safety.config import ModelJob
from moe_safety.errors import InputError, RunError
from moe_safety.jobs import Job, Parts, Plan, run_job
from moe_safety.rundir import RunDir
from tests.jobs.handlers import SCHEMA, Square

ITEMS = 6
ROWS = 8


def make_job(tmp_path, replicas=2, identity="model", **options):
    run = RunDir(str(tmp_path / "run"))
    plan = Plan(run, "plans/squares.parquet")
    items = [pa.table({"n": range(ROWS * item, ROWS * (item + 1))}, schema=SCHEMA) for item in range(ITEMS)]
    plan.write(items, SCHEMA, identity)
    parts = Parts(run, "squares", plan)
    return Job(plan, parts, partial(Square, str(tmp_path), **options), ModelJob(replicas=replicas))


def result(job):
    return [number for table in job.parts.tables() for number in table["n"].to_pylist()]


def handled(tmp_path):
    return sorted(int(line) for line in (tmp_path / "handled").read_text().split())


ALL = list(range(ITEMS * ROWS))
SQUARES = [number**2 for number in ALL]

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.mark.parametrize("replicas", [1, 2])
def test_every_item_is_handled_once_and_not_again(tmp_path, replicas):
    job = make_job(tmp_path, replicas)
    assert run_job(job).notes == {}
    assert result(job) == SQUARES
    assert run_job(job).tokens_per_second is None
    assert handled(tmp_path) == ALL


def test_missing_damaged_and_foreign_parts_are_made_again(tmp_path):
    job = make_job(tmp_path)
    run_job(job)
    run = job.parts.run
    run.delete(job.parts.marker_name(0))
    run.delete(job.parts.table_name(1))
    data = bytearray(run.read_bytes(job.parts.table_name(2)))
    data[len(data) // 2] ^= 1
    run.write_bytes(job.parts.table_name(2), bytes(data))
    run.write_bytes("squares/part-000099.parquet", b"left by a larger plan")
    assert job.parts.unfinished() == [0, 1, 2]
    (tmp_path / "handled").unlink()
    run_job(job)
    assert handled(tmp_path) == list(range(3 * ROWS))
    assert result(job) == SQUARES
    assert not run.exists("squares/part-000099.parquet")


def test_parts_of_another_model_do_not_count(tmp_path):
    run_job(make_job(tmp_path))
    assert make_job(tmp_path, identity="another").parts.unfinished() == list(range(ITEMS))


def test_a_killed_worker_is_replaced_and_nothing_is_lost(tmp_path):
    job = make_job(tmp_path, trap=20, deed="kill")
    run_job(job)
    assert (tmp_path / "killed").exists()
    assert result(job) == SQUARES


def test_an_item_out_of_memory_is_halved_and_noted(tmp_path):
    job = make_job(tmp_path, trap=9, deed="memory")
    assert run_job(job).notes == {"1": {"halved": 2}}
    assert result(job) == SQUARES


def test_an_item_that_must_stay_whole_is_not_halved(tmp_path):
    with pytest.raises(RunError, match="out of memory on one work item of 8 rows"):
        run_job(make_job(tmp_path, trap=9, deed="memory", divisible=False))


def test_a_user_s_mistake_found_by_an_actor_stays_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^some.json, row 3: is no good$"):
        run_job(make_job(tmp_path, trap=9, deed="input"))


def test_a_bug_in_an_actor_ends_the_run_and_names_itself(tmp_path):
    with pytest.raises(RunError, match=r"squares/_errors/part-000001.txt: ZeroDivisionError: a bug"):
        run_job(make_job(tmp_path, trap=9, deed="bug"))


def test_a_killed_driver_loses_nothing(tmp_path):
    script = f"""
    from pathlib import Path
    from moe_safety.jobs import run_job
    from tests.jobs.test_run import make_job
    run_job(make_job(Path({str(tmp_path)!r}), replicas=1, pause=0.5))
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    job = make_job(tmp_path)
    while len(job.parts.unfinished()) > ITEMS - 2:
        time.sleep(0.1)
        assert driver.poll() is None
    driver.kill()
    driver.wait()
    time.sleep(3)  # Its workers notice and go.
    stood = len(job.parts.unfinished())
    assert 0 < stood < ITEMS
    (tmp_path / "handled").unlink()
    run_job(job)
    assert result(job) == SQUARES
    assert len(handled(tmp_path)) == stood * ROWS
