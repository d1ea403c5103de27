import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial

import psutil
import pyarrow as pa
import pytest

from moe_safety.config import ModelJob
from moe_safety.errors import InputError, RunError
from moe_safety.jobs import Job, Parts, Plan, run_job, run_jobs
from moe_safety.jobs.item_halving import Halving
from moe_safety.jobs.progress import Progress
from moe_safety.jobs.replica import RemoteJob, Replica
from moe_safety.jobs.watchdog import Watchdog
from moe_safety.rundir import RunDir
from tests.jobs.handlers import SCHEMA, Impatient, Square, Told

ITEMS = 6
ROWS = 8


def make_job(tmp_path, replicas=2, identity="model", item_timeout=None, **options):
    run = RunDir(str(tmp_path / "run"))
    plan = Plan(run, "plans/squares.parquet")
    items = [pa.table({"n": range(ROWS * item, ROWS * (item + 1))}, schema=SCHEMA) for item in range(ITEMS)]
    plan.write(items, SCHEMA, identity)
    parts = Parts(run, "squares", plan)
    return Job(
        plan, parts, partial(Square, str(tmp_path), **options), ModelJob(replicas=replicas, item_timeout=item_timeout)
    )


def result(job):
    return [number for table in job.parts.tables() for number in table["n"].to_pylist()]


def handled(tmp_path):
    return sorted(int(line) for line in (tmp_path / "handled").read_text().split())


def wait_for_the_last_actor():
    """A run that ends early takes its actors with it, but one may still be at an item."""
    until = time.monotonic() + 240
    mine = psutil.Process()
    while any("Replica" in cmdline(process) for process in mine.children(recursive=True)):
        assert time.monotonic() < until, "an actor goes on"
        time.sleep(0.1)


def cmdline(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


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


def test_an_item_is_told_of_before_the_next_one_is_done(tmp_path, monkeypatch):
    def advance(*given):
        with open(tmp_path / "told", "a") as file:
            file.write(".")

    monkeypatch.setattr(Progress, "advance", advance)
    run_job(replace(make_job(tmp_path, replicas=1), build=partial(Told, str(tmp_path))))
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


def test_a_hung_worker_is_ended_and_replaced(tmp_path):
    job = make_job(tmp_path, trap=20, deed="hang", item_timeout=5.0)
    assert run_job(job).notes == {"2": {"hung": 1}}
    assert result(job) == SQUARES
    assert sorted({*handled(tmp_path)}) == ALL
    assert "misbehave" in job.parts.run.read_bytes("squares/_errors/part-000002.txt").decode()
    assert job.parts.run.names("squares/_attempts") == []


def test_an_item_that_always_ends_its_process_ends_the_run(tmp_path):
    """As where the kernel has no memory for it: Ray would start actors without end."""
    job = make_job(tmp_path, replicas=1, trap=20, deed="kill always")
    with pytest.raises(RunError, match=r"^squares: work item 2 ended its process 3 times in a row; .*little memory"):
        run_job(replace(job, build=Impatient(job.build)))
    assert run_job(make_job(tmp_path, replicas=1)).notes == {}, "the next command begins to count anew"


def test_an_item_may_end_its_process_five_times(tmp_path):
    parts = make_job(tmp_path).parts
    for _ in range(5):
        Watchdog(parts, 2, None).__enter__()
    with Watchdog(parts, 2, None):
        pass
    for _ in range(6):
        Watchdog(parts, 2, None).__enter__()
    with pytest.raises(RunError, match=r"^squares: work item 2 ended its process 6 times in a row; .*little memory"):
        Watchdog(parts, 2, None).__enter__()


def test_where_an_item_was_cut_is_remembered(tmp_path):
    """So that it is cut in the same places when there is more memory."""
    job = make_job(tmp_path, trap=9, deed="memory")
    notes = [{}, {}]
    first = Halving(job.parts, 1, job.build(), notes[0])(job.plan.rows(1))
    (tmp_path / "handled").unlink()
    roomy = Square(str(tmp_path))
    again = Halving(job.parts, 1, roomy, notes[1])(job.plan.rows(1))
    assert first.equals(again)
    assert notes == [{"halved": 2}] * 2
    pieces = (tmp_path / "handled").read_text().split()
    assert pieces == [str(number) for number in range(8, 16)]
    other = make_job(tmp_path, identity="another model")
    assert Halving(other.parts, 1, roomy, {}).cut == []


def test_a_processor_without_memory_is_out_of_memory_too(tmp_path):
    job = make_job(tmp_path, trap=9, deed="no room", divisible=False)
    with pytest.raises(RunError, match="out of memory on one work item of 8 rows"):
        Halving(job.parts, 1, job.build(), {})(job.plan.rows(1))


def test_an_item_that_always_hangs_ends_the_run(tmp_path):
    job = make_job(tmp_path, replicas=1, trap=20, deed="hang always", item_timeout=0.5)
    with pytest.raises(
        RunError, match=r"^squares: work item 2 took longer than 0.5 s, 3 times in a row; .*item_timeout"
    ):
        run_job(job)
    assert 2 in job.parts.unfinished()


def test_a_disk_that_is_full_ends_the_run_and_loses_nothing(tmp_path):
    job = make_job(tmp_path, replicas=1, trap=20, deed="full")
    with pytest.raises(RunError, match="File too large; nothing was overwritten"):
        run_job(job)
    wait_for_the_last_actor()
    left = job.parts.unfinished()
    assert 2 in left
    assert not list((tmp_path / "run" / "squares").glob(".part-000002*")), "no half of it is left"
    (tmp_path / "handled").unlink()
    again = make_job(tmp_path, replicas=1)
    run_job(again)
    assert handled(tmp_path) == [number for item in left for number in ALL[item * ROWS : (item + 1) * ROWS]]
    assert result(again) == SQUARES


def commit_all(job):
    """In this process, without Ray."""
    for item in range(ITEMS):
        job.parts.commit(item, job.build()(job.plan.rows(item), {}), {})


def test_clocks_and_file_times_do_not_matter(tmp_path, monkeypatch):
    job = make_job(tmp_path)
    commit_all(job)
    for number, file in enumerate((tmp_path / "run").rglob("*")):
        os.utime(file, (10**9 - number, 10**9 - number))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert make_job(tmp_path).parts.unfinished() == []


def test_a_run_directory_that_a_host_does_not_see_is_told(tmp_path):
    job = make_job(tmp_path)
    work = RemoteJob(RunDir(str(tmp_path / "elsewhere")), job.plan.name, ("squares",), job.build, None)
    result = Replica().handle("ticket", [work], 0, [0])
    assert result["error"] == "InputError"
    assert "run_dir: is not seen from" in result["message"]


def test_a_marker_that_is_no_json_does_not_count(tmp_path):
    job = make_job(tmp_path)
    commit_all(job)
    job.parts.run.write_bytes(job.parts.marker_name(3), b"\x80\x04")
    assert job.parts.unfinished() == [3]


def test_an_item_out_of_memory_is_halved_and_noted(tmp_path):
    job = make_job(tmp_path, trap=9, deed="memory")
    assert run_job(job).notes == {"1": {"halved": 2}}
    assert result(job) == SQUARES


def test_an_item_that_must_stay_whole_is_not_halved(tmp_path):
    with pytest.raises(RunError, match="out of memory on one work item of 8 rows"):
        run_job(make_job(tmp_path, replicas=1, trap=9, deed="memory", divisible=False))


def test_a_user_s_mistake_found_by_an_actor_stays_one_line(tmp_path):
    with pytest.raises(InputError, match=r"^some.json, row 3: is no good$"):
        run_job(make_job(tmp_path, replicas=1, trap=9, deed="input"))


def test_a_bug_in_an_actor_ends_the_run_and_names_itself(tmp_path):
    with pytest.raises(RunError, match=r"squares/_errors/part-000001.txt: ZeroDivisionError: a bug"):
        run_job(make_job(tmp_path, replicas=1, trap=9, deed="bug"))


def test_a_killed_driver_loses_nothing(tmp_path):
    script = f"""
    from pathlib import Path
    from moe_safety.jobs import run_job
    from tests.jobs.test_run import make_job
    run_job(make_job(Path({str(tmp_path)!r}), replicas=1, pause=0.5))
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    job = make_job(tmp_path, replicas=1)
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


def test_one_pool_does_several_jobs_and_each_keeps_its_own_handler(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = make_job(tmp_path / "one", replicas=1)
    second = make_job(tmp_path / "two", replicas=1, identity="other")
    run = first.parts.run
    moved = Plan(run, "plans/more.parquet")
    items = [pa.table({"n": range(100 + ROWS * item, 100 + ROWS * (item + 1))}, schema=SCHEMA) for item in range(2)]
    moved.write(items, SCHEMA, "more")
    second = Job(moved, Parts(run, "more", moved), second.build, second.resources)
    reports = run_jobs([first, second], "both")
    assert result(first) == SQUARES
    assert result(second) == [number**2 for number in range(100, 100 + 2 * ROWS)]
    assert handled(tmp_path / "one") == ALL
    assert handled(tmp_path / "two") == list(range(100, 100 + 2 * ROWS))
    assert len(reports) == 2
    assert all(report.tokens_per_second is None for report in run_jobs([first, second], "both"))
