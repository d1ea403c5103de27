"""What work on a cluster costs: a worker that is killed, in capture and in training, and a sweep of many trials.

    python benchmarks/cluster.py

A killed worker may cost the work since its last checkpoint and a start, and nobody has to do anything. On a host with
cards replicas and training workers hold one each, of two cards at least.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
from capture import write_batches
from soak import PRELOADED, PROCESSES, command_line, failed, start, undisturbed

from moe_safety.rundir import RunDir

PROMPTS = 6000
CAPTURE = ("capture.replicas=2", "capture.max_tokens_per_forward=1024")
CHECKPOINT_EVERY = 10
TRAIN = (
    "train.launch=ray",
    "train.num_workers=2",
    "train.num_epochs=30",
    f"train.checkpoint_every={CHECKPOINT_EVERY}",
)


def main() -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    PROCESSES.set_forkserver_preload(PRELOADED)
    for figure in (selection_sweep, killed_actor, killed_training_worker):
        with tempfile.TemporaryDirectory() as folder:
            print(figure(Path(folder)), flush=True)


def selection_sweep(folder: Path) -> str:
    """The whole command, Ray's start included, over stages that are done."""
    run, names = folder / "run", ("tune/selection", "manifests/tune.selection.json")
    undisturbed(run, ("prepare", "respond", "compose", "capture", "gradients", "effects", "identify"), ())
    flags = ["--set", f"run_dir={run}", "--set", "data.max_samples=60"]
    command = [sys.executable, "-m", "moe_safety", "tune", "tune_configs/selection.yaml", *flags]
    # The validation prompts are captured once for all sweeps.
    subprocess.run([*command, "--set", "sweep.trials=2"], check=True, stdout=subprocess.DEVNULL)
    RunDir(str(run)).delete_folder(names[0])
    RunDir(str(run)).delete(names[1])
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    ended = RunDir(str(run)).read_table(f"{names[0]}/results.parquet")
    return f"selection sweep: {len(ended)} trials in {seconds:.1f} s, Ray's start included (goal: 500 in under 60 s)"


def killed_actor(folder: Path) -> str:
    """Capture with two actors, one of them killed in the middle, against the same left alone; starting Ray apart."""
    spans, tables = [], []
    for name, kill in (("alone", False), ("killed", True)):
        run = RunDir(str(folder / name))
        write_batches(run, PROMPTS)
        driver = start(folder / name, ("capture",), CAPTURE)
        if kill:
            wait_until(lambda run=run: len(run.names("routing/_done")) >= 60, driver, folder / name)
            kill_worker(driver, "Replica")
        join(driver, folder / name)
        times = [os.stat(run.path(part)).st_mtime for part in run.names("routing/_done")]
        spans.append(max(times) - min(times))
        tables.append(run.digests(name for name in run.files("routing") if name.endswith(".parquet")))
    return (
        f"capture, one of two actors killed: {spans[1] - spans[0]:.1f} s more than {spans[0]:.1f} s, "
        f"for one of {len(times)} items and the start of an actor; tables "
        f"{'bit-identical' if tables[0] == tables[1] else 'DIFFER'}"
    )


def killed_training_worker(folder: Path) -> str:
    """Training on two Ray workers, one of them killed when the next checkpoint is almost due."""
    base, run = folder / "base", folder / "run"
    undisturbed(base, ("prepare", "respond", "compose", "capture", "identify"), ())
    shutil.copytree(base, run)
    checkpoints = run / "train/selective-routing/round_1/experts/checkpoints"

    def newest() -> Path | None:
        return max(checkpoints.glob("step-*.json"), default=None)

    def reached(count: int) -> bool:
        found = newest()
        return found is not None and found.stem >= f"step-{count * CHECKPOINT_EVERY:08d}"

    driver = start(run, ("train",), TRAIN)
    times = []
    for count in (1, 2, 3):
        wait_until(lambda count=count: reached(count), driver, run)
        times.append(time.time())
    usual = times[2] - times[1]
    time.sleep(0.8 * usual)
    last = newest()
    kill_worker(driver, "RayTrainWorker")
    killed = time.time()
    since = killed - os.stat(last).st_mtime if last else 0.0
    wait_until(lambda: (newest() or last) != last, driver, run)
    again = time.time() - killed - usual
    join(driver, run)
    return (
        f"training, one of two Ray workers killed: {since:.1f} s of work since the last checkpoint (one every "
        f"{usual:.1f} s), {again:.1f} s until the workers were there again; nobody did anything"
    )


def kill_worker(driver: BaseProcess, role: str) -> None:
    below = psutil.Process(driver.pid).children(recursive=True)
    next(each for each in below if role in command_line(each)).kill()


def wait_until(ready: Callable[[], bool], driver: BaseProcess, run: Path) -> None:
    while not ready():
        if not driver.is_alive():
            raise failed(run, driver)
        time.sleep(0.01)


def join(driver: BaseProcess, run: Path) -> None:
    driver.join()
    if driver.exitcode:
        raise failed(run, driver)


if __name__ == "__main__":
    main()
