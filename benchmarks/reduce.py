"""Time and memory of `identify` on many invented counts. Run: python benchmarks/reduce.py [PROMPTS].

Half the prompts are safe and half unsafe, two to a goal, sixteen to a batch; 16 layers of 64 experts, 1,000 bootstrap
rounds. Targets on two cores: 200,000 prompts under 120 seconds, 2 million under 200, on Ray; 4 GB for all processes.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moe_safety.batches.stretches import stretches
from moe_safety.config import IdentifyConfig
from moe_safety.identify import Experts
from moe_safety.identify.analysis import analyse, write_risk, writing_batches
from moe_safety.identify.batch_rows import read_batch_rows
from moe_safety.identify.inputs import Inputs, Routing
from moe_safety.identify.reduce import Reducer, check_coverage
from moe_safety.identify.selection import Selection, write_selection
from moe_safety.models import MoELayer, MoELayout
from moe_safety.routing.table import routing_table
from moe_safety.rundir import RunDir
from moe_safety.scores import SCORES

LAYERS, EXPERTS, TOP_K, BATCH, PARTS = 16, 64, 8, 16, 100


def main() -> None:
    prompts = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as folder:
        # A fresh process each, since the peak of a process never falls.
        for step in (_invent, _measure):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                pool.apply(step, (folder, prompts))


def _layout() -> MoELayout:
    layers = [MoELayer(index, "", "", "", EXPERTS, TOP_K, {}, False, False, True, True, ()) for index in range(LAYERS)]
    return MoELayout("invented", LAYERS, 8, tuple(layers), ())


def _invent(folder: str, prompts: int) -> None:
    run, generator = RunDir(folder), np.random.default_rng(0)
    rows = np.arange(prompts)
    ids, labels = pa.array([f"{row:016x}" for row in rows]), pa.array(np.where(rows % 2, "unsafe", "safe"))
    goals, categories = pa.array([f"{row // 2:016x}" for row in rows]), pa.array((rows // 2 % 10).astype(str))
    run.write_table("prompts.parquet", pa.table({"prompt_id": ids, "goal_id": goals, "category": categories}))
    batches = {"batch_idx": pa.array(rows // BATCH, pa.int32()), "prompt_id": ids, "label": labels}
    run.write_table("batches.parquet", pa.table(batches))
    # As `capture` leaves them: within a stretch prompts are spread over parts without regard to their batches. To draw
    # all counts would take longer than what is measured: parts have the same rows and experts in other orders.
    number, size = stretches(rows // BATCH), 0
    pool = _Counts(generator, prompts)
    for stretch in range(number[-1] + 1):
        mine = generator.permutation(np.flatnonzero(number == stretch))
        for part in np.array_split(mine, max(4, PARTS // (number[-1] + 1))):
            tokens, counts = pool.some(generator, len(part))
            named = ids.take(pa.array(part)).to_pylist()
            name = f"routing/part-{size:06d}.parquet"
            run.write_table(name, routing_table(_layout(), named, tokens, counts, counts * np.float32(0.1)))
            size += 1
    written = sum((Path(folder) / name).stat().st_size for name in run.names("routing"))
    print(f"{prompts} prompts, {LAYERS} x {EXPERTS} experts, {size} parts of {written / 1e9:.2f} GB", flush=True)


class _Counts:
    """Some prompts' counts, from which those of all are put together."""

    def __init__(self, generator: np.random.Generator, prompts: int) -> None:
        self.tokens = generator.integers(16, 129, min(prompts, 8192))
        mean = np.broadcast_to(self.tokens[:, None] * TOP_K / EXPERTS, (len(self.tokens), LAYERS * EXPERTS))
        self.counts = np.minimum(generator.poisson(mean), self.tokens[:, None]).astype(np.int32)

    def some(self, generator: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        rows = generator.integers(len(self.tokens), size=size)
        experts = generator.permutation(LAYERS * EXPERTS)
        return self.tokens[rows], self.counts[np.ix_(rows, experts)].reshape(size, LAYERS, EXPERTS)


def _measure(folder: str, prompts: int) -> None:
    run, settings, clock = RunDir(folder), IdentifyConfig(method="routing", threshold=0.0), _Clock()
    experts, names = Experts.of_layout(_layout()), run.names("routing")
    rows = clock("read batches", lambda: read_batch_rows(run))
    coverage = clock("check that the counts cover them", lambda: check_coverage(run, names, rows))
    risk_diff = SCORES.get("risk_diff")
    scores = [SCORES.get("risk_diff_control"), risk_diff]
    inputs = Inputs("", experts, rows, scores, risk_diff, None, Routing(names, "", coverage))
    reducer = Reducer(run, names, coverage, rows, experts, settings.bootstrap_rounds)

    def reduced() -> Any:
        with writing_batches(run, inputs) as write:
            return analyse(settings, 0, inputs, reducer.both("counts"), write)

    analysis = clock("reduce, statistics, batch tables", reduced)
    selection = Selection(
        settings.method, settings.score, 0.0, settings.top_k, None, "", analysis.selected, analysis.per_batch
    )
    clock("write tables", lambda: write_risk(run, experts, rows, analysis.risk))
    clock("write the selection", lambda: write_selection(run, experts, selection))
    written = len(rows.batch_ids) * len(experts)
    print(f"{'together':<34}{clock.total:>8.1f} s, {written} rows of batch tables", flush=True)


class _Clock:
    """Prints what each step takes, and the most memory that all processes together held so far."""

    def __init__(self) -> None:
        self.total, self.peak = 0.0, 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, sum(_share(process) for process in _descendants(os.getpid())))
            time.sleep(0.5)

    def __call__(self, name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = step()
        seconds = time.perf_counter() - start
        self.total += seconds
        print(f"{name:<34}{seconds:>8.1f} s   peak so far {self.peak / 1e6:>6.0f} MB, driver {_peak():.0f}", flush=True)
        return result


def _descendants(process: int) -> list[int]:
    try:
        tasks = [Path(task, "children").read_text() for task in Path(f"/proc/{process}/task").iterdir()]
    except OSError:
        return [process]
    return [process, *(one for child in " ".join(tasks).split() for one in _descendants(int(child)))]


def _share(process: int) -> int:
    """Bytes of memory, of what is shared its part."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
