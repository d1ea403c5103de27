"""Random SIGKILLs over capture and training, and whether anything was lost, done twice or changed.

    python benchmarks/soak.py [KILLS] [SEED]

Kills workers, and drivers, which are then started again as a user would. Every run that ends is compared with one that
nobody disturbed: tables and weights bit for bit, every prompt counted once, every batch trained once a turn. Ends with
exit 1 if anything differs. 200 kills take about half an hour on two cores.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
from capture import write_batches
from safetensors.torch import load_file

from moe_safety.errors import MoeSafetyError
from moe_safety.everything import load_config
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir

PROCESSES = multiprocessing.get_context("forkserver")
"""Drivers begin with everything imported, so that a kill costs a second and not ten."""
PRELOADED = ["moe_safety.routing.capture", "moe_safety.train.train"]
PROMPTS = 6000
ARM = "selective-routing"


@dataclass(frozen=True)
class Scenario:
    name: str
    stage: str
    settings: tuple[str, ...]
    worker: str
    """What the command lines of its Ray workers hold."""
    drivers: float
    """Share of the kills that hit the driver."""
    pause: tuple[float, float]
    """Seconds between kills."""
    share: float
    """Of all kills."""


SCENARIOS = (
    Scenario(
        "capture, two actors",
        "capture",
        ("capture.replicas=2", "capture.max_tokens_per_forward=1024"),
        worker="Replica",
        drivers=0.1,
        pause=(0.5, 4.0),
        share=0.5,
    ),
    Scenario(
        "training in one process",
        "train",
        ("train.launch=process", "train.num_epochs=40", "train.checkpoint_every=3"),
        worker="",
        drivers=1.0,
        pause=(0.5, 8.0),
        share=0.44,
    ),
    Scenario(
        "training on two Ray workers",
        "train",
        (
            "train.launch=ray",
            "train.num_workers=2",
            "train.num_epochs=40",
            "train.checkpoint_every=3",
            "train.max_failures=100",
        ),
        worker="RayTrainWorker",
        drivers=0.1,
        pause=(3.0, 8.0),
        share=0.06,
    ),
)


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)
    print(f"{kills} kills, seed {seed}", flush=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    PROCESSES.set_forkserver_preload(PRELOADED)
    faults = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        undisturbed(folder / "demo", ("prepare", "respond", "compose", "capture", "identify"), ())
        for scenario in SCENARIOS:
            soak = Soak(scenario, folder, random.Random(f"{seed} {scenario.name}"))
            faults += soak.run(round(kills * scenario.share))
    print("\n".join(faults) or "nothing was lost, nothing was done twice, nothing differs")
    sys.exit(bool(faults))


class Soak:
    """One scenario: runs under fire until its kills are spent, each compared with the run that was left alone."""

    def __init__(self, scenario: Scenario, folder: Path, chooser: random.Random) -> None:
        self.scenario, self.folder, self.chooser = scenario, folder, chooser
        self.kills: Counter[str] = Counter()
        self.began = time.monotonic()

    def run(self, kills: int) -> list[str]:
        """What went wrong."""
        self._say(f"{self.scenario.name}: {kills} kills")
        whole = self._fresh("whole")
        undisturbed(whole, (self.scenario.stage,), self.scenario.settings)
        self._say("the undisturbed run is there")
        faults, runs = [], 0
        while self.kills.total() < kills:
            runs += 1
            disturbed = self._fresh(f"run {runs}")
            self._under_fire(disturbed, kills)
            found = differences(self.scenario.stage, RunDir(str(whole)), RunDir(str(disturbed)))
            faults += [f"{self.scenario.name}, run {runs}: {each}" for each in found]
            self._say(f"run {runs} ended; {'; '.join(found) or 'it equals the undisturbed one'}")
            shutil.rmtree(disturbed)
        told = ", ".join(f"{count} {what}s" for what, count in sorted(self.kills.items()))
        self._say(f"{self.scenario.name}: killed {told}; {runs} runs ended, {len(faults)} faults")
        return faults

    def _fresh(self, name: str) -> Path:
        """A run directory up to the scenario's stage."""
        run = self.folder / self.scenario.name / name
        if self.scenario.stage == "capture":
            write_batches(RunDir(str(run)), PROMPTS)
        else:
            shutil.copytree(self.folder / "demo", run)
        return run

    def _under_fire(self, run: Path, kills: int) -> None:
        """Until the stage is done, its driver started again whenever it was killed."""
        while True:
            driver = start(run, (self.scenario.stage,), self.scenario.settings)
            while driver.is_alive() and self.kills.total() < kills:
                self._kill(driver)
            driver.join()
            if driver.exitcode == 0:
                return
            if driver.exitcode != -9:
                # Ray gives its own start half a minute, which a busy machine may not have.
                if "Ray did not start" not in (run / "log").read_text():
                    raise failed(run, driver)
                self._say("Ray did not start; the command is run again")

    def _kill(self, driver: BaseProcess) -> None:
        """One kill, unless the driver ends before."""
        kind = "driver" if self.chooser.random() < self.scenario.drivers else "worker"
        while kind == "worker" and driver.is_alive() and not self._workers(driver):
            driver.join(0.2)
        driver.join(self.chooser.uniform(*self.scenario.pause))
        if not driver.is_alive():
            return
        workers = self._workers(driver)
        if kind == "driver":
            below = psutil.Process(driver.pid).children(recursive=True)
            driver.kill()
            driver.join()
            self._wait_for_the_end(below)
        elif workers:
            with suppress(psutil.NoSuchProcess):
                self.chooser.choice(workers).kill()
        else:
            return
        self.kills[kind] += 1
        self._say(f"kill {self.kills.total()}: a {kind}")

    def _workers(self, driver: BaseProcess) -> list[psutil.Process]:
        try:
            below = psutil.Process(driver.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [each for each in below if self.scenario.worker in command_line(each)]

    def _wait_for_the_end(self, processes: list[psutil.Process]) -> None:
        """Ray takes its processes away when their driver has gone."""
        end = time.monotonic() + 20
        while any(map(lives, processes)) and time.monotonic() < end:
            time.sleep(0.1)
        for process in filter(lives, processes):
            self._say(f"{command_line(process)[:60].strip()} outlived its driver")
            process.kill()

    def _say(self, line: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {line}", flush=True)


def undisturbed(run: Path, stages: Sequence[str], settings: Sequence[str]) -> None:
    driver = start(run, stages, settings)
    driver.join()
    if driver.exitcode:
        raise failed(run, driver)


def start(run: Path, stages: Sequence[str], settings: Sequence[str]) -> BaseProcess:
    flags = [f"run_dir={json.dumps(str(run))}", "data.max_samples=60", *settings]
    run.mkdir(parents=True, exist_ok=True)
    driver = PROCESSES.Process(target=drive, args=(stages, flags, run / "log"))
    driver.start()
    return driver


def failed(run: Path, driver: BaseProcess) -> SystemExit:
    return SystemExit(f"{run}: the driver ended with {driver.exitcode}: {(run / 'log').read_text()[-2000:]}")


def drive(stages: Sequence[str], flags: list[str], log: Path) -> None:
    """A driver's life."""
    import torch

    torch.set_num_threads(1)
    with open(log, "w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        config = load_config("configs/demo.yaml", flags)
        try:
            for stage in stages:
                run_one(stage, config)
        except MoeSafetyError as error:
            print(f"error: {error}")
            sys.exit(error.exit_code)


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # It has gone.


def differences(stage: str, whole: RunDir, disturbed: RunDir) -> list[str]:
    """What the disturbed run left otherwise than the whole one."""
    return (_tables if stage == "capture" else _training)(whole, disturbed)


def _tables(whole: RunDir, disturbed: RunDir) -> list[str]:
    found = []
    names = [run.names("routing", ".parquet") for run in (whole, disturbed)]
    if names[0] != names[1]:
        return [f"{len(names[1])} parts instead of {len(names[0])}"]
    ids = [name for part in names[1] for name in disturbed.read_table(part, ["prompt_id"])["prompt_id"].to_pylist()]
    if len(ids) != len(set(ids)) or len(ids) != PROMPTS:
        found.append(f"{len(ids)} rows of {len(set(ids))} prompts, and there are {PROMPTS}")
    return found + [f"{name} differs" for name in names[0] if whole.digest(name) != disturbed.digest(name)]


def _training(whole: RunDir, disturbed: RunDir) -> list[str]:
    found = []
    logs = [run.read_json(f"train/{ARM}/training_metadata.json")["training_logs"] for run in (whole, disturbed)]
    steps: list[list[Any]] = [[(row["step"], row["batch_idx"], row["loss"]) for row in log] for log in logs]
    if steps[0] != steps[1]:
        found.append(f"the step log differs: {len(steps[1])} steps, and there are {len(steps[0])}")
    models = [load_file(run.path(f"train/{ARM}/final_model/model.safetensors")) for run in (whole, disturbed)]
    return found + [f"{name} differs" for name, tensor in models[0].items() if not (models[1][name] == tensor).all()]


if __name__ == "__main__":
    main()
