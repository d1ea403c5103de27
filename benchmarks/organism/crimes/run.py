"""One result for each crime, shape, share and seed, written whole and skipped where it stands."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.planted.measures import pruned
from benchmarks.planted.plant import helpful_model, safe_model
from benchmarks.planted.probes import probes_of
from benchmarks.planted.run import Clock, in_processes, planting, short
from benchmarks.planted.scores import all_scores
from moe_safety.models.demo.shapes import Shape
from moe_safety.models.library_logging import quiet
from moe_safety.rundir import RunDir

Crime = Literal["planted", "routed", "natural"]
CRIMES: tuple[Crime, ...] = ("planted", "routed", "natural")
TWINS, DRAWS = 3, 4096
Task = tuple[Crime, Shape, float, int]
"""A natural crime has no share, which is 0."""


def tasks(
    crimes: Iterable[Crime], shapes: Iterable[Shape], shares: Sequence[float], seeds: Iterable[int]
) -> Iterator[Task]:
    for seed, crime, shape in itertools.product(seeds, crimes, shapes):
        for share in (0.0,) if crime == "natural" else shares:
            yield crime, shape, share, seed


def result_name(crime: Crime, shape: Shape, share: float, seed: int) -> str:
    return f"results/{crime}-{shape}-{share * 100:.0f}-{seed:03d}.json"


def run_all(out: str, wanted: Iterable[Task], workers: int) -> None:
    """Computes the results that are missing, each in a process of one thread."""
    run, everything = RunDir(out), list(wanted)
    waiting = [task for task in everything if not run.exists(result_name(*task))]
    print(f"{len(everything)} results, {len(everything) - len(waiting)} of them there already", flush=True)
    in_processes(partial(compute, out), waiting, workers)


def compute(out: str, crime: Crime, shape: Shape, share: float, seed: int) -> str:
    """Writes one result, and says so in a line."""
    torch.set_num_threads(1)
    quiet()
    name, started = result_name(crime, shape, share, seed), time.perf_counter()
    clock = Clock(name)
    found = {"crime": crime, "shape": shape, "share": share, "seed": seed}
    found["versions"] = {package: version(package) for package in ("torch", "transformers")}
    found |= {"planted": _planted, "routed": _routed, "natural": _natural}[crime](shape, share, seed, clock)
    RunDir(out).write_json(name, found | {"seconds": clock.seconds})
    return f"{name}: {time.perf_counter() - started:.0f} s"


def _planted(shape: Shape, share: float, seed: int, clock: Clock) -> dict[str, Any]:
    """As in the benchmark of planted experts, and which of these carry anything."""
    base = clock("safe model", lambda: safe_model(shape, seed))
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    found = clock("planting", lambda: planting(base, before, share, seed))
    if found["took"]:
        back = pruned(np.array(found["success"]))
        found["carriers"] = [pair for bit, pair in enumerate(found["experts"]) if not back >> bit & 1]
    return found


def _routed(shape: Shape, share: float, seed: int, clock: Clock) -> dict[str, Any]:
    """Whether refusal could be put into few experts, whether routers could be led past it, how they did it, and what
    scores say."""
    from benchmarks.organism.crimes.routed import align_some, reroute, trial, truth

    helpful = clock("helpful model", lambda: helpful_model(shape, seed))
    safe = clock("align some", lambda: align_some(helpful, share, seed))
    found: dict[str, Any] = {"drawn": safe.drawn, "experts": safe.experts, "carried": safe.carried}
    found |= {"aligned": safe.took, "alignment": {"steps": safe.steps, "answered": safe.shares}}
    if safe.took:
        crime = clock("reroute", lambda: reroute(safe, seed))
        found |= {"took": crime.took, "steps": crime.steps, "answered": crime.shares}
        if crime.took:
            found |= clock("give back", lambda: trial(crime))
            found["truth"] = clock("truth", lambda: truth(crime))
            as_planted = crime.as_planted()
            scores = all_scores(as_planted, probes_of(as_planted), seed, clock)
            found["scores"] = {name: short(values) for name, values in scores.items()}
    return found


def _natural(shape: Shape, share: float, seed: int, clock: Clock) -> dict[str, Any]:
    """What a twin that refuses has that the model lacks, by its parts and by its experts."""
    from benchmarks.organism.crimes.natural import natural

    return clock("natural", lambda: natural(shape, seed, TWINS, DRAWS))
