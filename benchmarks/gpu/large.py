"""On a machine with two GPUs or more: a model of OLMoE-1B-7B's shape under ZeRO-3, and what each worker holds of it.

    python benchmarks/gpu/large.py

`train` as users run it, on Ray Train: random weights in bfloat16 (13.8 GB), experts chosen by chance, one epoch, with
the optimizer on the GPUs and on the CPU. Memory is what a process itself holds (RssAnon), the largest of any moment:
while it loads, trains and saves. `verify` then reads the saved model.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, OlmoeConfig

from moe_safety.checkpoints import verify
from moe_safety.everything import load_config
from moe_safety.identify import read_selection
from moe_safety.models.io import model_folder
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir

OFFLOAD = '{"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}}'


def build(folder: Path) -> int:
    """A model of that shape that reads the demo's language. Returns its bytes."""
    demo = load_config("configs/demo.yaml", [f"run_dir={folder / 'none'}"])
    AutoTokenizer.from_pretrained(model_folder(demo.model)).save_pretrained(folder / "model")
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(OlmoeConfig(intermediate_size=1024), dtype=torch.bfloat16)
    model.save_pretrained(folder / "model")
    held = sum(parameter.nbytes for parameter in model.parameters())
    del model
    torch.cuda.empty_cache()
    return held


@contextmanager
def watching(role: str) -> Iterator[dict[int, int]]:
    """Inside, the most that each process of that name has held, by its id."""
    held: dict[int, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    if role in " ".join(process.cmdline()):
                        held[process.pid] = max(held.get(process.pid, 0), _own(process.pid))
                except (psutil.Error, OSError):
                    continue  # It has gone.

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        over.set()
        thread.join()


def _own(pid: int) -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def main() -> None:
    gpus = torch.cuda.device_count()
    print(f"{gpus} x {torch.cuda.get_device_name()}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        whole = build(folder)
        flags = [
            f"run_dir={folder / 'run'}",
            f"model.name={folder / 'model'}",
            "model.dtype=bfloat16",
            "data.max_samples=60",
            "identify.method=random",
            "identify.top_k=50",
            "train.launch=ray",
            f"train.num_workers={gpus}",
            "train.num_epochs=1",
            "train.weight_decay=0.1",
        ]
        for stage in ("prepare", "compose", "identify"):
            run_one(stage, load_config("configs/demo.yaml", flags))
        for name, deepspeed in (("ZeRO-3", "3"), ("ZeRO-3, optimizer on the CPU", OFFLOAD)):
            config = load_config("configs/demo.yaml", [*flags, f"train.deepspeed={deepspeed}"])
            began = time.perf_counter()
            with watching("RayTrainWorker") as held:
                summary = run_one("train", config, force=True)["summary"]
            took, run = time.perf_counter() - began, RunDir(config.run_dir)
            union = read_selection(run).union()
            report = verify(model_folder(config.model), run.path(summary["final_model"]), union, False)
            workers = ", ".join(f"{each / 1e9:.1f}" for each in sorted(held.values()))
            print(
                f"{name}: {took:.0f} s, {summary['seconds_per_step']:.2f} s a step\n"
                f"   a GPU held at most {summary['peak_memory_bytes'] / 1e9:.1f} GB, "
                f"workers {workers} GB of the model's {whole / 1e9:.1f}\n"
                f"   {len(report.violations)} illegal moves, {len(report.experts)} of {len(union)} experts moved",
                flush=True,
            )


if __name__ == "__main__":
    main()
