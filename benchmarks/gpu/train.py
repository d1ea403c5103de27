"""On one GPU: a selective step against the baseline's, and the freeze there, bit by bit.

    python benchmarks/gpu/train.py [--profile] [--rows 16] [--tokens 256]
    python benchmarks/gpu/train.py --real

OLMoE-1B-7B shape, random weights, bfloat16 with float32 masters, 16 x 256 tokens, 5 % of the experts. The baseline
trains everything in the same loop, and so does `transformers`, whose model is as that library makes it. Each variant
runs in a process of its own, so that one's memory does not count for the other; RUNS of them in turn, since how fast a
process launches kernels differs from one to the next. Times are medians.

With `--real` the loop of `train` runs as a job runs it, loader and log included, on mixed batches of 24 rows whose
lengths are those of FlipAttack's result files: attacks of 365 to 423 tokens, other prompts of 25 to 70, targets of 17
to 128. Tokens are real ones, padding is none of them.
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
from tempfile import TemporaryDirectory

import pyarrow as pa
import torch
from transformers import AutoModelForCausalLM, OlmoeConfig, PreTrainedModel

from moe_safety.config import TrainConfig
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts import selective_experts, use_our_experts
from moe_safety.models.kernels.fuse import fuse
from moe_safety.models.kernels.graphs import recording_steps
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.models.text.packed_attention import packing
from moe_safety.pipeline import BATCHES
from moe_safety.rundir import RunDir
from moe_safety.train.checkpoint import Checkpoints
from moe_safety.train.data import BatchData
from moe_safety.train.engines import PlainEngine
from moe_safety.train.loop import Loop
from moe_safety.train.optimizer import LazyAdamW, MasterAdamW
from moe_safety.train.phases import ExpertPhase
from moe_safety.train.world import World

ROWS, TOKENS, SHARE, STEPS, RUNS = 16, 256, 0.05, 16, 3


def stock() -> PreTrainedModel:
    torch.manual_seed(0)
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(OlmoeConfig(intermediate_size=1024), dtype=torch.bfloat16).eval()


def build() -> PreTrainedModel:
    return fuse(use_our_experts(stock()))


def one(variant: str, count: int, length: int, profile: bool) -> dict[str, float]:
    """Milliseconds of a step, the peak, and the seconds until steps have their speed."""
    model = stock() if variant == "transformers" else build()
    layout = inspect_model(model)
    everyone = layout.experts()
    experts = random.Random(0).sample(everyone, round(SHARE * len(everyone)))
    ids = torch.randint(0, 50000, (count, length)).tolist()
    with ExitStack() as stack:
        packed = variant != "transformers" and stack.enter_context(packing(model))
        prompts, answers = [row[: length // 2] for row in ids], [row[length // 2 :] for row in ids]
        rows = make_rows(prompts, answers, "cuda", packed=packed)
        if variant == "selective":
            selective = stack.enter_context(selective_experts(model, experts))
            trained = dict(selective.named_parameters())
            optimizer = LazyAdamW(trained.values(), weight_decay=0.1)
            stack.enter_context(recording_steps(model, trained.values()))
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


KINDS = {"safe": (8, 25, 50, 20, 60), "unsafe": (8, 365, 423, 20, 60), "benign": (4, 30, 60, 17, 128)}
KINDS["control"] = (4, 35, 70, 17, 128)
"""Of each kind of row how many stand in a batch, and the least and most tokens of prompt and target."""


def batches(number: int) -> pa.Table:
    chance, rows = random.Random(0), []
    for batch in range(number):
        kinds = [(label, lengths) for label, (many, *lengths) in KINDS.items() for _ in range(many)]
        for place, (label, (fewest, most, least, longest)) in enumerate(kinds):
            prompt, target = chance.randint(fewest, most), chance.randint(least, longest)
            row = {"batch_idx": batch, "in_batch_idx": place, "prompt_id": f"{batch}-{place}", "label": label}
            row |= {name: [7] for name in ("target_prefix", "answer_prefix", "answer_tokens")}
            drawn = {"prompt_tokens": prompt, "target_tokens": target}
            rows.append(row | {name: chance.choices(range(50000), k=many) for name, many in drawn.items()})
    return pa.Table.from_pylist(rows)


def real(number: int = 40) -> dict[str, float]:
    """An epoch of the loop: real tokens a second once steps have their speed, and the seconds of the first one."""
    model = build()
    layout = inspect_model(model)
    experts = sorted(random.Random(0).sample(layout.experts(), round(SHARE * len(layout.experts()))))
    with TemporaryDirectory() as folder, ExitStack() as stack:
        run = RunDir(folder)
        run.write_table(BATCHES, batches(number))
        selective = stack.enter_context(selective_experts(model, experts))
        trained = dict(selective.named_parameters())
        packed = stack.enter_context(packing(model))
        if packed:
            stack.enter_context(recording_steps(model, trained.values()))
        masks = dict.fromkeys(range(number), experts)
        loop = Loop(
            phase=ExpertPhase(model, layout, stack, selective=selective, masks=masks, packed=packed),
            engine=PlainEngine(trained, LazyAdamW(trained.values()), 1.0, World()),
            data=BatchData(run),
            settings=TrainConfig(),
            peak_rate=1e-5,
            epochs=1,
            seed=0,
            weights={},
            checkpoints=Checkpoints(run, "checkpoints", "benchmark", World()),
            world=World(),
            on_step=lambda row: None,
        )
        log = loop.run().log
    timed = log[8:]
    seconds = sum(row["seconds"] for row in timed)
    return {
        "tokens_per_second": sum(row["tokens"] for row in timed) / seconds,
        "ms": 1e3 * statistics.median(row["seconds"] for row in timed),
        "first": sum(row["seconds"] for row in log[:3]),
        "packed": packed,
    }


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
    options.add_argument("--real", action="store_true")
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--tokens", type=int, default=TOKENS)
    given = options.parse_args()
    if given.real:
        found = real()
        print(
            f"{torch.cuda.get_device_name()}: {found['tokens_per_second']:,.0f} real tokens/s, {found['ms']:.1f} ms a "
            f"step, {'packed' if found['packed'] else 'padded'}; the first three steps took {found['first']:.1f} s"
        )
    elif given.variant == "freeze":
        print(json.dumps(freeze()))
    elif given.variant:
        print(json.dumps(one(given.variant, given.rows, given.tokens, given.profile)))
    else:
        flags = [f"--rows={given.rows}", f"--tokens={given.tokens}"]
        compare([*flags, *(["--profile"] if given.profile else [])])


def compare(flags: list[str]) -> None:
    print(torch.cuda.get_device_name(), flush=True)
    variants = ("selective", "baseline", "transformers")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*variants, "freeze")}
    for variant in variants * RUNS + ("freeze",):
        command = [sys.executable, __file__, variant, *flags]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        found[variant].append(json.loads(output.splitlines()[-1]))
        if variant != "freeze":
            last = found[variant][-1]
            print(f"   {variant} {last['ms']:.1f} ms ({last['low']:.1f}-{last['high']:.1f})", flush=True)
    fast, slow, usual = (statistics.median(run["ms"] for run in found[name]) for name in variants)
    light, heavy, most = (max(run["peak"] for run in found[name]) for name in variants)
    starts = ", ".join(f"{run['start']:.1f}" for run in found["selective"])
    frozen = found["freeze"][0]
    print(
        f"selective {fast:.1f} ms, baseline {slow:.1f} ms: {slow / fast:.2f} times faster (goal 2.5)\n"
        f"memory {light / 1e9:.1f} and {heavy / 1e9:.1f} GB: {light / heavy:.3f} (goal 0.28)\n"
        f"all of transformers' own model {usual:.1f} ms, {most / 1e9:.1f} GB: {usual / fast:.2f} times faster (goal "
        f"4.5), {light / most:.3f} of the memory (goal 0.19)\n"
        f"the first three steps took {starts} s\n"
        f"freeze: {frozen['illegal']} illegal moves, {frozen['moved']} of {frozen['expected']} active experts moved",
        flush=True,
    )


if __name__ == "__main__":
    main()
