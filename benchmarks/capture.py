"""What routing capture costs: counting itself, the Ray job around it, and a second actor.

    python benchmarks/capture.py [PROMPTS]

20,000 prompts through the demo model, on two cores with one thread per worker. Ratios come from this one run.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import ray
import torch

from moe_safety.batches.encoded import Encoder
from moe_safety.batches.files import write_batches
from moe_safety.batches.mixed import BATCHES_SCHEMA
from moe_safety.config import Config, ModelConfig
from moe_safety.everything import load_config
from moe_safety.inputs.table import prompt_id
from moe_safety.jobs import Plan
from moe_safety.models.decoder import decoder_of
from moe_safety.models.demo import language
from moe_safety.models.experts import run_counting
from moe_safety.models.io import load_chat
from moe_safety.models.text import pad_right
from moe_safety.routing.capture import capture
from moe_safety.routing.reader import build_reader
from moe_safety.rundir import RunDir

PACKING = 8192


def compose_batches(run: RunDir, count: int) -> None:
    """Prompts of three to nine requests each, all different."""
    import pyarrow as pa

    chooser, encoder = random.Random(0), Encoder(load_chat(ModelConfig(name="demo")), 256, 128)
    requests = language.requests(True) + language.requests(False)
    rows: dict[str, dict] = {}
    while len(rows) < count:
        asked = [chooser.choice(requests) for _ in range(chooser.randint(3, 9))]
        messages = [{"role": "user", "content": " ".join(request.text for request in asked)}]
        key = prompt_id(messages)
        answer = " ".join(request.answer for request in asked[:2])
        row = {"prompt_id": key, "label": "unsafe", "messages": messages, "answer": answer, "target": answer}
        rows[key] = row | encoder(row)
    table = [
        dict.fromkeys(BATCHES_SCHEMA.names) | row | {"batch_idx": n // 16, "in_batch_idx": n % 16}
        for n, row in enumerate(rows.values())
    ]
    write_batches(run, pa.Table.from_pylist(table, schema=BATCHES_SCHEMA), encoder)


def configured(folder: str, replicas: int) -> Config:
    flags = [f"run_dir={folder}", f"capture.replicas={replicas}", f"capture.max_tokens_per_forward={PACKING}"]
    return load_config("configs/demo.yaml", flags)


def job(count: int, replicas: int) -> tuple[float, str]:
    """Tokens per second of the whole job, once actors are up."""
    folder = tempfile.mkdtemp()
    compose_batches(RunDir(folder), count)
    return capture(configured(folder, replicas), force=True)["summary"]["tokens_per_second"], folder


def bare_loop(folder: str) -> float:
    """Tokens per second of the same forward passes and counts, nothing stored; call it in a process of its own."""
    torch.set_num_threads(1)
    reader = build_reader(configured(folder, 1).model, 0)
    plan = Plan(RunDir(folder), "plans/capture.parquet")
    items = [plan.rows(item) for item in range(len(plan))]
    reader(items[0], {})
    started = time.perf_counter()
    for rows in items[1:]:
        reader(rows, {})
    return sum(reader.tokens(rows) for rows in items[1:]) / (time.perf_counter() - started)


@torch.inference_mode()
def cost_of_counting(folder: str) -> float:
    """Time of a forward pass that counts over the same one that does not, both up to the last router."""
    reader = build_reader(configured(folder, 1).model, 0)
    plan = Plan(RunDir(folder), "plans/capture.parquet")
    ids = pad_right(plan.rows(len(plan) // 2)["tokens"].to_pylist()[:100])
    counted = torch.ones_like(ids, dtype=torch.bool)
    layers = reader.layout.layers
    ids_only = decoder_of(reader.model)

    def without() -> None:
        ids_only(input_ids=ids, use_cache=False)

    def counting() -> None:
        run_counting(reader.model, ids, None, counted, reader.layout)

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    def timed(run: Callable[[], None]) -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    def without_to_the_last_router() -> None:
        handle = reader.model.get_submodule(layers[-1].experts).register_forward_pre_hook(stop)
        try:
            without()
        except Stop:
            handle.remove()

    timed(counting), timed(without_to_the_last_router)
    pairs = [(timed(counting), timed(without_to_the_last_router)) for _ in range(30)]
    return statistics.median(one / two for one, two in pairs)


def main() -> None:
    if sys.argv[1:2] == ["loop"]:
        print(bare_loop(sys.argv[2]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    one, folder = job(count, 1)
    two, _ = job(count, 2)
    ray.shutdown()
    alone = subprocess.run(
        [sys.executable, __file__, "loop", folder],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    loop = float(alone.stdout)
    torch.set_num_threads(1)
    print(f"counting over not counting: {cost_of_counting(folder):.3f} of the time (goal at most 1.03)")
    print(f"bare loop, 1 thread:  {loop:12,.0f} tokens/s")
    print(f"Ray job, 1 actor:     {one:12,.0f} tokens/s, {one / loop:.2f} of the loop (goal at least 0.90)")
    print(f"Ray job, 2 actors:    {two:12,.0f} tokens/s, {two / one:.2f} of one actor (goal at least 1.70)")


if __name__ == "__main__":
    main()
