"""On a machine with GPUs: the stages as Ray jobs, and whether capture's tables depend on how replicas are spread.

python benchmarks/gpu/jobs.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from moe_safety.config import Config
from moe_safety.everything import load_config
from moe_safety.pipeline import run_one
from moe_safety.routing.table import matrix
from moe_safety.rundir import RunDir


def configured(folder: str, *flags: str) -> Config:
    small = ["model.dtype=bfloat16", "capture.max_tokens_per_forward=2000", "identify.bootstrap_rounds=200"]
    return load_config("configs/demo.yaml", [f"run_dir={folder}", *small, *flags])


def captured(config: Config) -> pa.Table:
    run_one("capture", config, force=True)
    run = RunDir(config.run_dir)
    return pa.concat_tables([run.read_table(name) for name in run.names("routing", ".parquet")]).sort_by("prompt_id")


def main() -> None:
    folder = tempfile.mkdtemp()
    print(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}", flush=True)
    for stage in ("prepare", "respond", "compose", "capture", "gradients", "effects", "identify"):
        started = time.perf_counter()
        run_one(stage, configured(folder))
        print(f"-- {stage}: {time.perf_counter() - started:.1f} s", flush=True)
    one = captured(configured(folder, "capture.replicas=1"))
    ways = {f"{n} replicas": [f"capture.replicas={n}"] for n in range(2, torch.cuda.device_count() + 1)}
    if torch.cuda.device_count() > 1:
        ways["a replica over 2 GPUs"] = ["capture.gpus_per_replica=2", "capture.replicas=1"]
    for name, flags in ways.items():
        other = captured(configured(folder, *flags))
        same = other.equals(one)
        apart = np.abs(matrix(other, "counts") - matrix(one, "counts")).sum() / matrix(one, "counts").sum()
        print(
            f"capture in bfloat16, {name} against one: {'bit-identical' if same else f'{apart:.5f} of counts differ'}"
        )
    print(sorted(path.name for path in Path(folder).iterdir()))


if __name__ == "__main__":
    main()
