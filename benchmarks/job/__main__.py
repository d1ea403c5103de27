"""A whole `moe-safety run`, as a user starts it, and where its time goes.

    python -m benchmarks.job [--tokenizer FOLDER [--shape olmoe|qwen3|tiny] [--layers 16] [--attacks 371]] [--runs 2]
        [--folder FOLDER] [--seconds S] [--submit] [--set key=value ...]

With `--tokenizer`: a model of random weights in bfloat16, of the shape of OLMoE-1B-7B (13.8 GB), of Qwen3-30B-A3B (61
GB), or tiny; the tokenizer is a real chat model's, in a folder or on the hub. Texts are invented words: attacks of 365
to 423 tokens, recorded answers of 17 to 824, plain goals of 6 to 25. Four arms are compared: the base,
`selective-causal`, and its two controls drawn by chance. Without it the demo runs, on the processor. In `--folder`
model, texts and runs stay, and the same command goes on where it was; `--seconds` ends a run then. `--submit` hands it
to Ray's job server, which must run on this machine.

The first run is cold, the next ones find compiled code and the page cache warm. Of each stage stand there: its seconds,
the seconds that its arithmetic alone would take on one card of this machine (floors.py), how many times as long it
took, how long the first card was at rest, the gigabytes in use on the fullest card and in the largest process, the
megabytes that its processes read and wrote, and what its seconds were spent on, those of its replicas and workers
behind a plus (`timings` of the manifests).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from benchmarks.job.floors import Floors, Machine, Shape
from benchmarks.job.inputs import Texts, build, write_inputs
from benchmarks.job.watch import Watched, watching
from benchmarks.job.work import arithmetic
from moe_safety.config import ModelConfig
from moe_safety.models.io import model_path
from moe_safety.rundir import KINDS, RunDir

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"


JOB = Path(__file__).parents[2] / "ray_jobs" / "pipeline.py"
SUBMIT = ["ray", "job", "submit", "--working-dir", ".", "--"]


def run_once(
    config: Path, floors: Floors, run_dir: Path, overrides: Sequence[str], seconds: float | None, submit: bool
) -> int:
    """Runs and prints; returns the exit code."""
    flags = [flag for one in [f"run_dir={run_dir}", *overrides] for flag in ("--set", one)]
    began = time.time()
    command = subprocess.Popen([*(SUBMIT if submit else ()), sys.executable, str(JOB), str(config), *flags])
    with watching(command) as watched:
        try:
            code = command.wait(seconds)
        except subprocess.TimeoutExpired:
            command.terminate()
            code = command.wait()
    ended = time.time()
    rest = watched.at_rest(began, ended)
    card = "" if rest is None else f", card at rest {rest:.0%}"
    print(f"\n{run_dir.name}: exit {code}, {ended - began:.1f} s in all{card}")
    table(RunDir(str(run_dir)), floors, watched)
    return code


def table(run: RunDir, floors: Floors, watched: Watched) -> None:
    """A line for each stage."""
    computed = arithmetic(run, floors)
    done = [one for one in map(run.read_json, run.names("manifests", ".json")) if "timings" in one]
    names = ("at rest", "card GB", "host GB", "read MB", "wrote MB")
    columns = f"{'seconds':>9}{'arithmetic':>12}{'times':>8}" + "".join(f"{name:>9}" for name in names)
    print(f"{'stage':<34}{columns}   spent on")
    for one in sorted(done, key=lambda one: one["finished"]):
        seconds, floor = one["timings"]["seconds"], computed.get(one["stage"], 0.0)
        start, end = one["finished"] - seconds, one["finished"]
        rest = watched.at_rest(start, end)
        cells = [f"{seconds:9.2f}", f"{floor:12.3f}", f"{seconds / floor:8.1f}" if floor else " " * 8]
        cells += [" " * 9 if rest is None else f"{rest:9.0%}"]
        cells += [f"{held:9.1f}" for held in watched.peaks(start, end)]
        cells += [f"{moved / 1e6:9.0f}" for moved in watched.read_and_written(start, end)]
        print(f"{one['stage']:<34}{''.join(cells)}   {_split(one['timings'])}")
    whole = sum(one["timings"]["seconds"] for one in done)
    floor = sum(computed.values())
    print(f"{'all':<34}{whole:9.2f}{floor:12.3f}{whole / floor if floor else 0:8.1f}", flush=True)


def _split(timings: dict[str, Any]) -> str:
    """The largest first; what is under a fiftieth of the stage is left out."""
    driver, replicas = timings["driver"], timings["replicas"]
    told = sorted(KINDS, key=lambda kind: -driver.get(kind, 0.0))
    told = [kind for kind in told if max(driver.get(kind, 0.0), replicas.get(kind, 0.0)) > timings["seconds"] / 50]
    beside = {kind: f"+{replicas[kind]:.2f}" if replicas.get(kind) else "" for kind in told}
    return ", ".join(f"{kind} {driver.get(kind, 0.0):.2f}{beside[kind]}" for kind in told)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", metavar="FOLDER")
    parser.add_argument("--shape", choices=("olmoe", "qwen3", "tiny"), default="olmoe")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--submit", action="store_true")
    parser.add_argument("--attacks", type=int, default=371)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    args = parser.parse_args(argv)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "on the processor"
    print(f"{device}, torch {torch.__version__}", flush=True)
    with nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as given:
        folder, began = Path(given), time.time()
        folder.mkdir(parents=True, exist_ok=True)
        if args.tokenizer:
            config, model, dtype = folder / "run.yaml", str(folder / "model"), torch.bfloat16
            known = build(folder / "model", args.tokenizer, args.layers, args.shape)
            write_inputs(folder, Texts(known), args.attacks)
        else:
            config, model, dtype = DEMO, model_path(ModelConfig(name="demo")), torch.float32
        floors = Floors(Shape.of(model), Machine.measured(dtype))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"model and texts: {time.time() - began:.0f} s; {json.dumps(vars(floors.machine))}", flush=True)
        codes = [
            run_once(config, floors, folder / f"run-{number + 1}", args.overrides, args.seconds, args.submit)
            for number in range(args.runs)
        ]
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(main())
