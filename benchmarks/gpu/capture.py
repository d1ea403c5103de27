"""On one GPU: routing capture against transformers' bare backbone forward. OLMoE-1B-7B shape, random weights.

    python benchmarks/gpu/capture.py [--profile]

Ratios come from one run, alternating between the variants; times are medians.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, OlmoeConfig

from moe_safety.models import inspect_model
from moe_safety.models.experts import run_counting, use_our_experts
from moe_safety.models.kernels.fuse import fuse

ROWS, LENGTH = 16, 512


def build() -> torch.nn.Module:
    torch.manual_seed(0)
    config = OlmoeConfig(intermediate_size=1024)
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def milliseconds(run: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return times


@torch.inference_mode()
def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--profile", action="store_true")
    profile = options.parse_args().profile
    untouched, model = build(), fuse(use_our_experts(build()))
    layout = inspect_model(model)
    ids = torch.randint(0, 50000, (ROWS, LENGTH), device="cuda")
    mask = torch.ones_like(ids)
    counted = torch.ones_like(ids, dtype=torch.bool)

    def stock() -> None:
        torch.backends.cuda.enable_cudnn_sdp(True)
        untouched.model(input_ids=ids, attention_mask=mask, use_cache=False)
        torch.backends.cuda.enable_cudnn_sdp(False)

    def ours_bare() -> None:
        model.model(input_ids=ids, use_cache=False)

    def ours() -> None:
        run_counting(model, ids, None, counted, layout)

    variants = {"transformers grouped_mm": stock, "ours, not counting": ours_bare, "capture": ours}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        milliseconds(run, 5)
    for _ in range(10):
        for name, run in variants.items():
            times[name] += milliseconds(run, 3)
    held = torch.cuda.max_memory_allocated() - sum(parameter.nbytes for parameter in untouched.parameters())
    base = statistics.median(times["transformers grouped_mm"])
    for name, found in times.items():
        middle = statistics.median(found)
        print(
            f"{name:26} {middle:8.2f} ms  (min {min(found):.2f}, max {max(found):.2f})  "
            f"{ROWS * LENGTH / middle * 1000:12,.0f} tokens/s  x{base / middle:.2f}"
        )
    print(f"peak memory {held / 1e9:.1f} GB with one of the two models, {torch.cuda.get_device_name()}")
    if profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            ours()
            torch.cuda.synchronize()
        print(profiler.key_averages().table(sort_by="cuda_time_total", row_limit=25, max_name_column_width=70))


if __name__ == "__main__":
    main()
