"""On several GPUs of one host: weights read and written by all workers at once, against one that does it alone.

    python -m benchmarks.gpu.shards [--shape qwen3|olmoe|tiny] [--folder FOLDER]

Random weights in bfloat16. One worker writes the model, then all together; all read it whole, as under ZeRO-2; then
each its part, as under ZeRO-3, and write it again together. What lies there has to have the same digests each time.
FOLDER is on the disk, or in the memory, that is to be measured, and has room for twice the model. Without a GPU, `tiny`
runs on two processes of the host.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.gpu.zero import ON_CARD, SHAPES, build, joined
from moe_safety.config import ModelConfig
from moe_safety.models.experts.selective import Gather
from moe_safety.models.io import load_model
from moe_safety.models.io.save import save_rest, save_weights
from moe_safety.rundir import file_digest
from moe_safety.train.engines.deepspeed import deepspeed_config
from moe_safety.train.engines.spread import gathered, read_spread
from moe_safety.train.world import World


@contextmanager
def timed(what: str, world: World, size: int) -> Iterator[None]:
    """From when the first begins until the last has done it."""
    world.wait()
    began = time.perf_counter()
    yield
    if ON_CARD:
        torch.cuda.synchronize()
    world.wait()
    took = time.perf_counter() - began
    if world.rank == 0:
        print(f"{what:52} {took:7.2f} s  {size / took / 1e9:6.2f} GB/s", flush=True)


def written(
    what: str, model: torch.nn.Module, folder: Path, world: World, of: int, size: int, gather: Gather | None = None
) -> None:
    with timed(what, world, size):
        if world.rank < of:
            save_weights(model, folder, gather=gather, rank=world.rank, of=of)
    if world.rank == 0:
        save_rest(model, folder)
    world.wait()


def one(rank: int, size: int, port: int, given: argparse.Namespace, folder: Path) -> None:
    device = joined(rank, size, port)
    world, model = World(), build(given, device)
    total = sum(each.nbytes for each in model.parameters())
    if rank == 0:
        print(f"{size} workers, {total / 1e9:.2f} GB, in {folder}", flush=True)
    written("written by one worker", model, folder / "alone", world, 1, total)
    written(f"written by {size}", model, folder / "together", world, size, total)
    del model
    base = ModelConfig(name=str(folder / "alone"))
    with timed(f"read whole by each of {size}", world, size * total):
        model = load_model(base)
    del model
    with timed("read by each its part", world, total):
        spread = read_spread(base, deepspeed_config(3, 1.0, torch.bfloat16), device)
    shutil.rmtree(folder / "together", ignore_errors=True)
    written("and written again", spread, folder / "together", world, size, total, gathered)
    if rank == 0:
        names = sorted(file.name for file in (folder / "alone").glob("*.safetensors"))
        digests = [[file_digest(folder / way / name) for name in names] for way in ("alone", "together")]
        print(f"{len(names)} files, {'the same bytes' if digests[0] == digests[1] else 'OTHER BYTES'}", flush=True)
    world.wait()
    dist.destroy_process_group()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shape", choices=SHAPES, default="qwen3" if ON_CARD else "tiny")
    options.add_argument("--folder")
    options.set_defaults(tokenizer=None)
    given = options.parse_args()
    size = torch.cuda.device_count() if ON_CARD else 2
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        mp.spawn(one, (size, port, given, Path(folder)), nprocs=size)


if __name__ == "__main__":
    main()
