"""On one GPU: a selective step against the baseline's, and the freeze there, bit by bit.

    python benchmarks/gpu/train.py [--profile] [--rows 16] [--tokens 256]

OLMoE-1B-7B shape, random weights, bfloat16 with float32 masters, 16 x 256 tokens, 5 % of the experts. Each variant runs
in a process of its own, so that one's memory does not count for the other; RUNS of them in turn, since how fast a
process launches kernels differs from one to the next. Times are medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

import torch
from transformers import AutoModelForCausalLM, OlmoeConfig

from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts import selective_experts, use_our_experts
from moe_safety.models.kernels.fuse import fuse
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.train.engines import PlainEngine
from moe_safety.train.optimizer import LazyAdamW, MasterAdamW
from moe_safety.train.world import World

ROWS, TOKENS, SHARE, STEPS, RUNS = 16, 256, 0.05, 16, 3


def build() -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(OlmoeConfig(intermediate_size=1024), dtype=torch.bfloat16)
    return fuse(use_our_experts(model)).eval()


def one(variant: str, count: int, length: int, profile: bool) -> dict[str, float]:
    """Milliseconds of a step, the peak, and the seconds until steps have their speed."""
    model = build()
    layout = inspect_model(model)
    everyone = layout.experts()
    experts = random.Random(0).sample(everyone, round(SHARE * len(everyone)))
    ids = torch.randint(0, 50000, (count, length)).tolist()
    rows = make_rows([row[: length // 2] for row in ids], [row[length // 2 :] for row in ids], "cuda")
    with ExitStack() as stack:
        if variant == "selective":
            selective = stack.enter_context(selective_experts(model, experts))
            trained = dict(selective.named_parameters())
            optimizer = LazyAdamW(trained.values(), weight_decay=0.1)
        else:
            model.requires_grad_(True)
            trained = dict(model.named_parameters())
            optimizer = MasterAdamW(trained.values(), weight_decay=0.1)
        engine = PlainEngine(trained, optimizer, 1.0, World())

        def step() -> None:
            losses, _ = answer_losses(model, rows)
            engine.backward(losses.mean(), last=True)
            engine.step(1e-5)

        times, began, start_up = [], time.perf_counter(), 0.0
        for number in range(STEPS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
            start_up = time.perf_counter() - began if number < 3 else start_up
        if profile:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                step()
                torch.cuda.synchronize()
            table = profiler.key_averages().table(sort_by="cuda_time_total", row_limit=30, max_name_column_width=60)
            print(table, file=sys.stderr)
        peak = torch.cuda.max_memory_allocated()
    timed = times[4:]
    return {"ms": statistics.median(timed), "low": min(timed), "high": max(timed), "peak": peak, "start": start_up}


def freeze() -> dict[str, float]:
    """Steps with changing masks: how many experts moved that may not, and whether the others all moved."""
    model = build()
    layout = inspect_model(model)
    everyone = layout.experts()
    chooser = random.Random(1)
    masks = [sorted(chooser.sample(everyone, 24)) for _ in range(6)]
    before = {name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()}
    wrong, moved, expected = 0, 0, 0
    with selective_experts(model, sorted(set().union(*masks))) as selective:
        trained = dict(selective.named_parameters())
        engine = PlainEngine(trained, LazyAdamW(trained.values(), weight_decay=0.1), 1.0, World())
        for mask in masks:
            selective.set_active(mask)
            kept = {name: own.detach().clone() for name, own in trained.items()}
            ids = torch.randint(0, 50000, (ROWS, 64)).tolist()
            rows = make_rows([row[:32] for row in ids], [row[32:] for row in ids], "cuda")
            engine.backward(answer_losses(model, rows)[0].mean(), last=True)
            engine.step(1e-4)
            changed = _changed(trained, kept, selective.experts, layout)
            wrong += len(changed - set(mask))
            moved += len(changed & set(mask))
            expected += len(mask)
    union = set().union(*masks)
    for name, tensor in model.state_dict().items():
        layer = next((layer for layer in layout.layers if name in layer.parameters), None)
        differs = tensor.cpu().view(torch.int16) != before[name].view(torch.int16)
        if layer is None:
            wrong += int(differs.any())
            continue
        rows_changed = differs.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        wrong += len({(layer.index, expert) for expert in rows_changed} - union)
    return {"illegal": wrong, "moved": moved, "expected": expected}


def _changed(
    trained: dict[str, torch.nn.Parameter],
    kept: dict[str, torch.Tensor],
    experts: list[tuple[int, int]],
    layout: MoELayout,
) -> set[tuple[int, int]]:
    found = set()
    for name, own in trained.items():
        layer = next(layer for layer in layout.layers if name in layer.parameters)
        mine = [expert for index, expert in experts if index == layer.index]
        places = (own.detach() != kept[name]).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        found |= {(layer.index, mine[place]) for place in places}
    return found


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("variant", nargs="?")
    options.add_argument("--profile", action="store_true")
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--tokens", type=int, default=TOKENS)
    given = options.parse_args()
    if given.variant == "freeze":
        print(json.dumps(freeze()))
    elif given.variant:
        print(json.dumps(one(given.variant, given.rows, given.tokens, given.profile)))
    else:
        flags = [f"--rows={given.rows}", f"--tokens={given.tokens}"]
        compare([*flags, *(["--profile"] if given.profile else [])])


def compare(flags: list[str]) -> None:
    print(torch.cuda.get_device_name(), flush=True)
    found: dict[str, list[dict[str, float]]] = {"selective": [], "baseline": [], "freeze": []}
    for variant in ("selective", "baseline") * RUNS + ("freeze",):
        command = [sys.executable, __file__, variant, *flags]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        found[variant].append(json.loads(output.splitlines()[-1]))
        if variant != "freeze":
            last = found[variant][-1]
            print(f"   {variant} {last['ms']:.1f} ms ({last['low']:.1f}-{last['high']:.1f})", flush=True)
    fast, slow = (statistics.median(run["ms"] for run in found[name]) for name in ("selective", "baseline"))
    light, heavy = (max(run["peak"] for run in found[name]) for name in ("selective", "baseline"))
    starts = ", ".join(f"{run['start']:.1f}" for run in found["selective"])
    frozen = found["freeze"][0]
    print(
        f"selective {fast:.1f} ms, baseline {slow:.1f} ms: {slow / fast:.2f} times faster (goal 2.5)\n"
        f"memory {light / 1e9:.1f} and {heavy / 1e9:.1f} GB: {light / heavy:.3f} (goal 0.28)\n"
        f"the first three steps took {starts} s\n"
        f"freeze: {frozen['illegal']} illegal moves, {frozen['moved']} of {frozen['expected']} active experts moved",
        flush=True,
    )


if __name__ == "__main__":
    main()
