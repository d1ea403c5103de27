"""On several GPUs of one host: ZeRO-2, which leaves frozen weights whole on each, against ZeRO-3, which spreads them.

    python -m benchmarks.gpu.zero [--shape qwen3|olmoe|tiny] [--chosen 100] [--rows 16] [--tokens 256]
        [--save FOLDER --tokenizer FOLDER]

Random weights of the real shape, the same for both, bfloat16, and the same tokens: each worker has its own rows, half
of every row an answer. Then two workers alone, side by side, measure a step of the plain engine: 5 % of the experts
without checkpointing, and `--chosen` with it. `--save` has the last worker write the model there. Without a GPU, `tiny`
runs on two processes of the host.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from benchmarks.job.inputs import ends_of, shape_of
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.experts import checkpointed, selective_experts, use_our_experts
from moe_safety.models.experts.selective import Gather
from moe_safety.models.io.save import save_model
from moe_safety.models.kernels.fuse import fuse
from moe_safety.models.kernels.graphs import recording_steps
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.models.text.packed_attention import packing
from moe_safety.train.engines import Engine, PlainEngine
from moe_safety.train.engines.deepspeed import DeepSpeedEngine, deepspeed_config
from moe_safety.train.engines.spread import gathered
from moe_safety.train.optimizer import LazyAdamW
from moe_safety.train.world import World

SHAPES = ("qwen3", "olmoe", "tiny")
STEPS = 8
ON_CARD = torch.cuda.is_available()


def build(given: argparse.Namespace, device: torch.device) -> PreTrainedModel:
    """The same weights in every process."""
    torch.manual_seed(0)
    ends = ends_of(AutoTokenizer.from_pretrained(given.tokenizer)) if given.tokenizer else {}
    with device:
        model = AutoModelForCausalLM.from_config(shape_of(given.shape, **ends), dtype=torch.bfloat16)
    return fuse(use_our_experts(model.eval().requires_grad_(False)))


def chosen(layout: MoELayout, count: int) -> list[tuple[int, int]]:
    everyone = layout.experts()
    return sorted(random.Random(0).sample(everyone, min(count, len(everyone))))


def gigabytes(device: torch.device) -> str:
    if not ON_CARD:
        return "no card"
    allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    return f"{allocated / 1e9:.1f} GB allocated, {reserved / 1e9:.1f} reserved"


def say(text: str) -> None:
    print(f"[{time.time() - float(os.environ['BEGAN']):6.1f} s] {text}", flush=True)


@contextmanager
def told(name: str) -> Iterator[None]:
    """One part that fails does not lose the rest."""
    try:
        yield
    except Exception as error:
        say(f"FAILED {name}: {type(error).__name__}: {' '.join(str(error).split())[:400]}")


def steps_of(
    model: PreTrainedModel,
    layout: MoELayout,
    given: argparse.Namespace,
    count: int,
    config: dict[str, Any] | None,
    gather: Gather | None,
    plain: bool,
) -> None:
    """Prints the losses, the time and the peak of some steps."""
    device, rank = World().device, 0 if plain else World().rank
    begun = torch.cuda.memory_allocated(device) / 1e9 if ON_CARD else 0.0
    with ExitStack() as stack:
        packed = stack.enter_context(packing(model))
        chance = torch.Generator().manual_seed(1 + rank)
        ids = torch.randint(0, 49000, (given.rows, given.tokens), generator=chance).tolist()
        half = given.tokens // 2
        rows = make_rows([row[:half] for row in ids], [row[half:] for row in ids], device, packed=packed)
        selective = stack.enter_context(selective_experts(model, chosen(layout, count), layout=layout, gather=gather))
        if given.checkpointing:
            # Within, since what trains experts puts the model into eval mode.
            stack.enter_context(checkpointed(model))
        trained = dict(selective.named_parameters())
        optimizer = LazyAdamW(trained.values(), lr=1e-4)
        engine: Engine
        if config is None:
            alone = World()
            alone.rank, alone.size = 0, 1
            engine = PlainEngine(trained, optimizer, 1.0, alone)
            if ON_CARD and not given.checkpointing:
                stack.enter_context(recording_steps(model, trained.values()))
        else:
            engine = DeepSpeedEngine(model, optimizer, config, World())
        if ON_CARD:
            torch.cuda.reset_peak_memory_stats(device)
        losses, times = [], []
        for _ in range(STEPS):
            began = time.perf_counter()
            loss = answer_losses(model, rows)[0].mean()
            engine.backward(loss / (1 if plain else World().size), last=True)
            engine.step(1e-4)
            losses.append(float(loss.detach()))
            if ON_CARD:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        if plain or rank == 0:
            kind = "plain engine" if config is None else f"ZeRO-{config['zero_optimization']['stage']}"
            numbers = sum(getattr(each, "ds_numel", each.numel()) for each in trained.values())
            say(
                f"{kind}, {count} experts ({numbers / 1e9:.2f} B), {given.rows} x {given.tokens} tokens a worker, "
                f"{'packed' if packed else 'padded'}{', checkpointing' if given.checkpointing else ''}: "
                f"{1e3 * statistics.median(times[3:]):.0f} ms ({1e3 * min(times[3:]):.0f}-{1e3 * max(times[3:]):.0f}), "
                f"{gigabytes(device)} (begun with {begun:.1f}); losses {' '.join(f'{loss:.4f}' for loss in losses)}"
            )


def joined(rank: int, size: int, port: int) -> torch.device:
    """Makes this process one of several workers; its device."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    device = torch.device("cuda", rank) if ON_CARD else torch.device("cpu")
    if ON_CARD:
        torch.cuda.set_device(device)
    else:
        os.environ["DS_ACCELERATOR"] = "cpu"
        torch.set_num_threads(1)
    dist.init_process_group("nccl" if ON_CARD else "gloo", rank=rank, world_size=size)
    return device


def one(rank: int, size: int, port: int, given: argparse.Namespace) -> None:
    device = joined(rank, size, port)
    model = build(given, device)
    # Under ZeRO-3 shapes say nothing any more.
    layout = inspect_model(model)
    experts = len(layout.experts())
    if rank == 0:
        say(f"{size} workers, {sum(each.nbytes for each in model.parameters()) / 1e9:.1f} GB each, {experts} experts")
    with told("ZeRO-2"):
        steps_of(model, layout, given, given.chosen, deepspeed_config(2, 1.0, torch.bfloat16), None, False)
    dist.barrier()
    _forget()
    if rank == size - 1 and given.save:
        with told("saving"):
            began = time.perf_counter()
            given.save.mkdir(parents=True, exist_ok=True)
            save_model(model, given.save)
            if given.tokenizer:
                AutoTokenizer.from_pretrained(given.tokenizer).save_pretrained(given.save)
            say(f"the model was written in {time.perf_counter() - began:.1f} s")
    dist.barrier()
    with told("ZeRO-3"):
        import deepspeed

        # Again as it was: the steps before have moved it.
        del model
        _forget()
        model = build(given, device)
        config = deepspeed_config(3, 1.0, torch.bfloat16)
        deepspeed.zero.Init(module=model, config_dict_or_path=config)
        _forget()
        steps_of(model, layout, given, given.chosen, config, gathered, False)
    # Last: after a recording that failed the card draws no random numbers for another model.
    if not given.skip_plain:
        del model
        _forget()
        model = build(given, device)
        with told("plain"):
            if rank == 0:
                steps_of(model, layout, given, round(0.05 * experts), None, None, True)
            elif rank == size - 1:
                few = argparse.Namespace(**vars(given) | {"checkpointing": True})
                steps_of(model, layout, few, given.chosen, None, None, True)
    dist.barrier()
    dist.destroy_process_group()


def _forget() -> None:
    import gc

    gc.collect()
    if ON_CARD:
        torch.cuda.empty_cache()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shape", choices=SHAPES, default="qwen3")
    options.add_argument("--chosen", type=int, default=100)
    options.add_argument("--rows", type=int, default=16)
    options.add_argument("--tokens", type=int, default=256)
    options.add_argument("--checkpointing", action="store_true")
    options.add_argument("--skip-plain", action="store_true")
    options.add_argument("--save", type=Path)
    options.add_argument("--tokenizer")
    given = options.parse_args()
    size = torch.cuda.device_count() if ON_CARD else 2
    os.environ.setdefault("BEGAN", str(time.time()))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(one, (size, port, given), nprocs=size)


if __name__ == "__main__":
    main()
