"""`ray job submit` against a head of its own, with a token: success, a failing job, and one cluster only."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from moe_safety.pipeline import STAGES
from moe_safety.rundir import RunDir

RAY = str(Path(sys.executable).parent / "ray")


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The environment in which `ray job` finds it."""
    gcs, dashboard, agent, agent_grpc, client, metrics, runtime = free_ports(7)
    folder = Path("/tmp") / f"moe-{secrets.token_hex(4)}"  # Short: the paths of Ray's sockets have a limit.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}",  # As an activated environment has it: jobs say `python`.
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    options = {
        "port": gcs,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "dashboard-agent-grpc-port": agent_grpc,
        "runtime-env-agent-port": runtime,
        "ray-client-server-port": client,
        "metrics-export-port": metrics,
        "dashboard-host": "127.0.0.1",
        "node-ip-address": "127.0.0.1",
        "num-cpus": 2,
        "temp-dir": folder,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    log = tmp_path_factory.mktemp("head") / "log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [RAY, "start", "--head", "--block", *flags],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = {**environment, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
        wait_until(lambda: ray(address, "job", "list").returncode == 0, log)
        yield address
    finally:
        end_session(process.pid)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def end_session(leader):
    """Ends the head and what it started; Ray's own way takes half a minute."""
    for file in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getsid(int(file.name)) == leader:
                os.kill(int(file.name), signal.SIGKILL)


def wait_until(ready, log):
    for _ in range(120):
        if ready():
            return
        time.sleep(2)
    raise TimeoutError(log.read_text())


def ray(environment, *words):
    return subprocess.run([RAY, *words], env=environment, capture_output=True, text=True, timeout=500)


def submit(environment, file, *words):
    name = secrets.token_hex(4)
    done = ray(
        environment, "job", "submit", "--submission-id", name, "--working-dir", ".", "--", "python", file, *words
    )
    status = ray(environment, "job", "status", name).stdout
    return done, status


def flags(folder, *overrides):
    overrides = (f"run_dir={folder}", "data.max_samples=60", *overrides)
    return [word for override in overrides for word in ("--set", override)]


def test_a_job_succeeds_on_the_cluster_that_it_was_submitted_to(head, composed, tmp_path):
    shutil.copytree(composed, tmp_path / "run")
    words = flags(tmp_path / "run", "capture.replicas=1")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(submit, head, "ray_jobs/capture.py", "configs/demo.yaml", *words)
        most = 0
        while not running.done():
            most = max(most, sum(started_by(file, head) for file in Path("/proc").glob("[0-9]*/cmdline")))
            time.sleep(0.5)
        done, status = running.result()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCEEDED" in status.upper()
    assert "work items" in done.stdout, "the log is followed"
    assert RunDir(str(tmp_path / "run")).files("routing")
    assert most == 1, "the job started no cluster of its own, at any time"


@pytest.mark.soak
def test_a_sweep_is_submitted(head, composed, tmp_path):
    shutil.copytree(composed, tmp_path / "run")
    choice = "[{method: routing, score: risk_diff}, {method: random, score: null}]"
    words = flags(tmp_path / "run", "sweep.trials=6", f"sweep.space.identify={{choice: {choice}}}")
    done, status = submit(head, "ray_jobs/tune.py", "tune_configs/selection.yaml", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCEEDED" in status.upper()
    assert "6 trials: 6 finished" in done.stdout
    assert RunDir(str(tmp_path / "run")).exists("tune/selection/best.yaml")


def started_by(cmdline, environment):
    """Whether it is a control process of Ray with this test's token in its environment."""
    try:
        told = (cmdline.parent / "environ").read_bytes()
        return b"gcs_server" in cmdline.read_bytes() and environment["RAY_AUTH_TOKEN"].encode() in told
    except OSError:
        return False


def test_a_failing_job_fails_with_one_line(head, tmp_path):
    words = flags(tmp_path / "run", "batches.batch_sise=4")
    done, status = submit(head, "ray_jobs/pipeline.py", "configs/demo.yaml", *words)
    assert done.returncode == 1
    assert "FAILED" in status.upper()
    errors = {line for line in done.stdout.splitlines() if line.startswith("error: ")}
    assert errors == {"error: configs/demo.yaml, batches.batch_sise: unknown key, did you mean 'batch_size'?"}
    assert "Traceback" not in done.stdout


def test_without_the_token_nobody_submits(head):
    refused = ray({**head, "RAY_AUTH_TOKEN": secrets.token_hex(16)}, "job", "list")
    assert refused.returncode != 0


@pytest.mark.soak
def test_the_whole_pipeline_as_a_job(head, tmp_path):
    small = ("train.num_epochs=1", "identify.bootstrap_rounds=20", "effects.prompts=4")
    done, status = submit(head, "ray_jobs/pipeline.py", "configs/demo.yaml", *flags(tmp_path / "run", *small))
    assert done.returncode == 0, done.stdout[-3000:]
    assert "SUCCEEDED" in status.upper()
    assert RunDir(str(tmp_path / "run")).exists("train/selective-routing/training_metadata.json")


def test_every_stage_has_its_job_file():
    for stage in (*STAGES.names(), "tune"):
        text = Path(f"ray_jobs/{stage}.py").read_text()
        assert f'main(["{stage}", *sys.argv[1:]])' in text
        assert "torch" not in text
