"""One result for each shape and seed, written whole and skipped where it stands."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.planted.plant import exam, plant, safe_model
from benchmarks.planted.probes import probes_of
from benchmarks.planted.resetting import success_by_subset
from benchmarks.planted.scores import all_scores
from moe_safety.models.demo.shapes import Shape
from moe_safety.models.demo.train import Pupil
from moe_safety.models.library_logging import quiet
from moe_safety.rundir import RunDir

SHARES = (0.03, 0.06, 0.12)

T = TypeVar("T")


def result_name(seed: int, shape: Shape) -> str:
    return f"results/{shape}-{seed:03d}.json"


def run_all(out: str, shapes: Iterable[Shape], seeds: Iterable[int], workers: int) -> None:
    """Computes the results that are missing, each in a process of one thread."""
    run = RunDir(out)
    everything = list(itertools.product(seeds, shapes))
    waiting = [one for one in everything if not run.exists(result_name(*one))]
    print(f"{len(everything)} results, {len(everything) - len(waiting)} of them there already", flush=True)
    in_processes(partial(compute, out), waiting, workers)


def in_processes(work: Callable[..., str], waiting: Sequence[tuple[Any, ...]], workers: int) -> None:
    """Does each piece of work in a process of one thread, and prints what it says."""
    # Set before the workers start, since some libraries read it when they are loaded.
    os.environ["OMP_NUM_THREADS"] = "1"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        futures = [pool.submit(work, *one) for one in waiting]
        for count, future in enumerate(as_completed(futures), start=1):
            print(f"[{count}/{len(futures)}] {future.result()}", flush=True)


def compute(out: str, seed: int, shape: Shape) -> str:
    """Writes one result, and says so in a line."""
    torch.set_num_threads(1)
    quiet()
    started = time.perf_counter()
    clock = Clock(f"{shape} {seed}")
    base = clock("safe model", lambda: safe_model(shape, seed))
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    result = {
        "shape": shape,
        "seed": seed,
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "safe": exam(base),
        "plantings": [planting(base, before, share, seed) for share in SHARES],
        "seconds": clock.seconds,
    }
    RunDir(out).write_json(result_name(seed, shape), result)
    return f"{shape} {seed}: {time.perf_counter() - started:.0f} s"


def planting(base: Pupil, before: dict[str, torch.Tensor], share: float, seed: int) -> dict[str, Any]:
    """Plants, scores every expert, and measures what putting the planted ones back does."""
    clock = Clock(f"{base.model.config.model_type} {seed} {share * 100:.0f} %")
    model = clock("plant", lambda: plant(base, before, share, seed))
    found: dict[str, Any] = {
        "share": share,
        "draw": model.draw,
        "steps": model.steps,
        "took": model.took,
        "answered": model.shares,
        "experts": model.experts,
    }
    if model.took:
        probes = probes_of(model)
        found["probes"] = {label: len(trials) for label, trials in probes.trials.items()}
        scores = all_scores(model, probes, seed, clock)
        found["guilty"] = [pair in model.experts for pair in model.layout.experts()]
        found["scores"] = {name: short(values) for name, values in scores.items()}
        found["success"] = short(clock("put back", lambda: success_by_subset(model)))
    return found | {"seconds": clock.seconds}


class Clock:
    """Remembers and prints what each step takes of one core, whatever else the machine does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str, work: Callable[[], T]) -> T:
        started = time.process_time()
        done = work()
        self.seconds[step] = round(time.process_time() - started, 2)
        print(f"  {self.name}: {step} {self.seconds[step]:.1f} s", flush=True)
        return done


def short(values: np.ndarray) -> list[float]:
    """Seven digits are what float32 holds."""
    return [float(f"{value:.7g}") for value in values]
