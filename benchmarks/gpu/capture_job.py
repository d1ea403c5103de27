"""`compose` and `capture` as jobs over prompts of real lengths, beside the bare pass: how much of its pace a job keeps.

    python -m benchmarks.gpu.capture_job --tokenizer FOLDER [--shape olmoe|qwen3|tiny] [--attacks 8000]
        [--replicas 1] [--folder FOLDER]

A model of random weights in bfloat16, a real chat model's tokenizer, invented texts: attacks of 340 to 390 tokens,
plain goals of 6 to 25, harmless requests of 6 to 40, and no answers but those of the files. 8,000 attacks make some
20,000 prompts to capture. Then, in this process and on the same card: passes of 16x512 tokens that count; and some
items of the plan read one after another, without a job around them, as the job reads them and padded. Without a card
take `tiny`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch

from benchmarks.job.inputs import Texts, build, write_inputs
from moe_safety.everything import load_config
from moe_safety.jobs import Plan
from moe_safety.jobs.pool import release_replicas
from moe_safety.models.experts import run_counting
from moe_safety.pipeline import run_one
from moe_safety.routing import reader as reading
from moe_safety.routing.reader import RoutingReader, build_reader
from moe_safety.routing.table import matrix
from moe_safety.rundir import RunDir

ROWS, LENGTH, ITEMS = 16, 512, 24


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def bare(reader: RoutingReader) -> float:
    """Tokens per second of passes of equal rows, which is what `benchmarks/gpu/capture.py` times."""
    ids = torch.randint(5, 40000, (ROWS, LENGTH), device=reader.device)
    counted = torch.ones_like(ids, dtype=torch.bool)
    took = [seconds(lambda: run_counting(reader.model, ids, None, counted, reader.layout)) for _ in range(15)]
    return ROWS * LENGTH / statistics.median(took[5:])


def read(reader: RoutingReader, items: Sequence[pa.Table]) -> tuple[float, pa.Table]:
    """Tokens per second of items that are read in turn, and what is counted."""
    list(reader.in_turn(items[:3]))
    found: list[pa.Table] = []
    took = seconds(lambda: found.extend(reader.in_turn(items)))
    return sum(map(reader.tokens, items)) / took, pa.concat_tables(found)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--shape", choices=("olmoe", "qwen3", "tiny"), default="olmoe")
    parser.add_argument("--attacks", type=int, default=8000)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(argv)
    with nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        write_inputs(folder, Texts(build(folder / "model", given.tokenizer, shape=given.shape)), given.attacks)
        flags = [f"run_dir={folder / 'run'}", f"capture.replicas={given.replicas}"]
        config = load_config(str(folder / "run.yaml"), flags)
        for stage in ("prepare", "compose", "capture"):
            manifest = run_one(stage, config, force=True)
            told = {kind: round(value, 2) for kind, value in manifest["timings"]["driver"].items() if value > 0.05}
            print(f"{stage}: {manifest['timings']['seconds']:.1f} s {json.dumps(told)}", flush=True)
        job, prompts = manifest["summary"]["tokens_per_second"], manifest["summary"]["prompts"]
        release_replicas()
        torch.set_num_threads(1)
        reader, plan = build_reader(config.model, 1), Plan(RunDir(config.run_dir), "plans/capture.parquet")
        pace = bare(reader)
        items = [plan.rows(item) for item in range(0, len(plan), max(1, len(plan) // ITEMS))]
        here, counted = read(reader, items)
        with patch.object(reading, "packing", lambda model: nullcontext(False)):
            padded, plain = read(reader, items)
        apart = np.abs(matrix(counted, "counts") - matrix(plain, "counts")).sum() / matrix(plain, "counts").sum() / 2
        card = torch.cuda.get_device_name() if torch.cuda.is_available() else "on the processor"
        print(f"{card}, torch {torch.__version__}: {prompts} prompts, {len(plan)} items, {given.replicas} replicas")
        print(f"passes of {ROWS}x{LENGTH}:          {pace:12,.0f} tokens/s")
        print(f"items in turn, as they are: {here:12,.0f} tokens/s, {here / pace:.2f} of the pass")
        print(f"items in turn, padded:      {padded:12,.0f} tokens/s, {apart:.5f} of choices differ")
        print(
            f"the job:                    {job:12,.0f} tokens/s, {job / pace:.2f} of the pass (goal 0.9 each replica)"
        )


if __name__ == "__main__":
    main()
