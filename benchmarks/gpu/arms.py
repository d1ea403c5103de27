"""On one GPU: what a training step of each arm costs, all in one run.

    python benchmarks/gpu/arms.py [ARM ...]

OLMoE-1B-7B shape, random weights, bfloat16, 5 % of the experts, mixed batches of 24 rows as long as those of `train.py`
are in the mean, attacks with answers of 128 tokens: the worker's own path but for reading and writing models. Arms that
train alike share a line. Seconds are the median of the last steps, memory the most of any step.
"""

from __future__ import annotations

import contextlib
import gc
import io
import random
import statistics
import sys
import tempfile
import time

import pyarrow as pa
import torch
from train import KINDS, SHARE, build

from moe_safety.arms import ARMS, Arm
from moe_safety.everything import load_config
from moe_safety.models import inspect_model
from moe_safety.pipeline import BATCHES
from moe_safety.rundir import RunDir
from moe_safety.train import worker
from moe_safety.train.task import Task
from moe_safety.train.world import World

STEPS, TIMED, ANSWER = 8, 4, 128


def batches(number: int) -> pa.Table:
    """All of one shape, so that steps have their speed soon."""
    chance, rows = random.Random(0), []
    for batch in range(number):
        kinds = [(label, lengths) for label, (many, *lengths) in KINDS.items() for _ in range(many)]
        for place, (label, (fewest, most, least, longest)) in enumerate(kinds):
            row = {"batch_idx": batch, "in_batch_idx": place, "prompt_id": f"{batch}-{place}", "label": label}
            row |= {name: [7] for name in ("target_prefix", "answer_prefix")}
            drawn = {"prompt_tokens": (fewest + most) // 2, "target_tokens": (least + longest) // 2}
            drawn["answer_tokens"] = ANSWER if label == "unsafe" else 2
            rows.append(row | {name: chance.choices(range(50000), k=many) for name, many in drawn.items()})
    return pa.Table.from_pylist(rows)


def alike(arm: Arm) -> tuple[object, ...]:
    """What its first phase costs hangs on this."""
    return (arm.phases[0], arm.trains, arm.loss, arm.optimizer)


def step(arm: Arm, kind: str, folder: str) -> str:
    """A line of the table."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            config = load_config("configs/olmoe.yaml", [f"run_dir={folder}", "train.launch=process"])
            train = {**arm.training(config), "num_epochs": 1, "checkpoint_every": 1000}
            config = config.model_copy(update={"train": config.train.model_copy(update=train)})
            task = Task(arm.name, config, LAYOUT, kind, f"train/{arm.name}/{kind}", "benchmark", MASKS)
            found = worker._train(task, World(), RunDir(folder))
        except Exception as error:
            return f"| {arm.name} | {kind} | {type(error).__name__}: {str(error).splitlines()[0]} | | | |"
        finally:
            gc.collect()
            torch.cuda.empty_cache()
    del told
    log = found["log"]
    seconds = statistics.median(row["seconds"] for row in log[-TIMED:])
    return (
        f"| {arm.name} | {kind} | {1e3 * seconds:.0f} | {log[-1]['tokens'] / seconds:,.0f} "
        f"| {found['peak_memory_bytes'] / 1e9:.1f} | {found['trainable_params'] / 1e6:,.0f} |"
    )


MODEL = build()
LAYOUT = inspect_model(MODEL)
EXPERTS = sorted(random.Random(0).sample(LAYOUT.experts(), round(SHARE * len(LAYOUT.experts()))))
MASKS = dict.fromkeys(range(STEPS), EXPERTS)

if __name__ == "__main__":
    worker._stays = lambda task: False
    worker._loaded = lambda task, world: MODEL
    worker._save = lambda *given: False
    began, groups = time.perf_counter(), dict[tuple[object, ...], list[Arm]]()
    named = [ARMS.get(name) for name in sys.argv[1:]] or list(ARMS)
    for one in named:
        if one.phases:
            groups.setdefault(alike(one), []).append(one)
    print(torch.cuda.get_device_name(), "\n| arm | phase | ms a step | tokens/s | GB | million trained |", flush=True)
    with tempfile.TemporaryDirectory() as place:
        RunDir(place).write_table(BATCHES, batches(STEPS))
        for (phase, *_), arms in sorted(groups.items(), key=lambda each: ARMS.names().index(each[1][0].name)):
            print(
                step(arms[0], phase, place), "like it:", ", ".join(one.name for one in arms[1:]) or "none", flush=True
            )
    print(f"{time.perf_counter() - began:.0f} s in all")
