"""On a machine with several GPUs: training by Ray Train and DeepSpeed, against plain PyTorch on one GPU.

    python benchmarks/gpu/workers.py

The demo model, in float32 and bfloat16: ZeRO-1, 2 and 3 with a worker per GPU against one worker that accumulates as
many batches; the freeze is checked on the saved checkpoints.
"""

from __future__ import annotations

import tempfile
import time

import torch
from safetensors.torch import load_file

from moe_safety.checkpoints import verify
from moe_safety.config import Config
from moe_safety.everything import load_config
from moe_safety.identify import read_selection
from moe_safety.models.io import model_folder
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir


def configured(folder: str, dtype: str, *flags: str) -> Config:
    small = ["train.num_epochs=2", "train.learning_rate=1e-3", "train.weight_decay=0.1", f"model.dtype={dtype}"]
    return load_config("configs/demo.yaml", [f"run_dir={folder}", *small, *flags])


def trained(config: Config) -> dict[str, torch.Tensor]:
    """The weights, after checking that only the selection moved."""
    started = time.perf_counter()
    summary = run_one("train", config, force=True)["summary"]
    folder = RunDir(config.run_dir).path(summary["final_model"])
    if config.model.dtype == "float32":
        union = read_selection(RunDir(config.run_dir)).union()
        report = verify(model_folder(config.model), folder, union, False)
        frozen = f"{len(report.violations)} illegal moves, {len(report.experts)} of {len(union)} experts moved"
    else:
        frozen = "saved in another type than the base"
    print(f"   {time.perf_counter() - started:.1f} s, {summary['seconds_per_step']:.3f} s a step; {frozen}", flush=True)
    return load_file(f"{folder}/model.safetensors")


def apart(found: dict[str, torch.Tensor], alone: dict[str, torch.Tensor]) -> str:
    gaps = torch.cat([(found[name].double() - alone[name].double()).abs().flatten() for name in alone])
    differ = int((gaps > 0).sum())
    return f"{differ} of {len(gaps)} weights differ from one worker's, by {float(gaps.max()):.2e} at most"


def main() -> None:
    gpus = torch.cuda.device_count()
    print(f"{gpus} x {torch.cuda.get_device_name()}", flush=True)
    for dtype in ("float32", "bfloat16"):
        folder = tempfile.mkdtemp()
        for stage in ("prepare", "respond", "compose", "capture", "identify"):
            run_one(stage, configured(folder, dtype))
        print(f"{dtype}: one worker, {gpus} batches a step, plain PyTorch", flush=True)
        alone = trained(configured(folder, dtype, "train.launch=process", f"train.batches_per_worker={gpus}"))
        for zero in (0, 1, 2, 3):
            print(f"{dtype}: {gpus} workers, ZeRO-{zero}", flush=True)
            flags = ["train.launch=ray", f"train.num_workers={gpus}", f"train.deepspeed={zero}"]
            found = trained(configured(folder, dtype, *flags))
            print(f"   {apart(found, alone)}", flush=True)


if __name__ == "__main__":
    main()
