"""Time and memory of `identify` on many invented counts. Run: python benchmarks/reduce.py [PROMPTS].

Half the prompts are safe and half unsafe, two to a goal, sixteen to a batch; 16 layers of 64 experts, 1,000 bootstrap
rounds. The target at 200,000 prompts is under 120 seconds and 4 GB on two cores.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moe_safety.config import IdentifyConfig
from moe_safety.identify import Experts
from moe_safety.identify.analysis import analyse, write_risk
from moe_safety.identify.batch_rows import read_batch_rows
from moe_safety.identify.inputs import Inputs, Routing
from moe_safety.identify.reduce import Reducer, check_coverage, reduce_parts
from moe_safety.identify.selection import Selection, write_selection
from moe_safety.identify.statistics import resampled_goals
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


def _names() -> list[str]:
    return [f"routing/part-{part:06d}.parquet" for part in range(PARTS)]


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
    # As `capture` leaves them, prompts are spread over parts without regard to their batches.
    for name, part in zip(_names(), np.array_split(generator.permutation(prompts), PARTS), strict=True):
        tokens = generator.integers(16, 129, len(part))
        mean = np.broadcast_to(tokens[:, None, None] * TOP_K / EXPERTS, (len(part), LAYERS, EXPERTS))
        counts = np.minimum(generator.poisson(mean), tokens[:, None, None])
        weights = counts * np.float32(0.1)
        run.write_table(name, routing_table(_layout(), ids.take(pa.array(part)).to_pylist(), tokens, counts, weights))
    size = sum((Path(folder) / name).stat().st_size for name in _names())
    print(f"{prompts} prompts, {LAYERS} x {EXPERTS} experts, {PARTS} parts of {size / 1e9:.2f} GB together", flush=True)


def _measure(folder: str, prompts: int) -> None:
    run, settings, clock = RunDir(folder), IdentifyConfig(method="routing", threshold=0.0), _Clock()
    experts = Experts.of_layout(_layout())
    rows = clock("read batches", lambda: read_batch_rows(run))
    clock("check that the counts cover them", lambda: check_coverage(run, _names(), rows))
    times = clock("draw goals", lambda: resampled_goals(rows, settings.bootstrap_rounds, seed=0))
    counts = clock("reduce", lambda: reduce_parts(run, _names(), Reducer(rows, experts, times)))
    routed, risk_diff = Routing(_names(), "", 0), SCORES.get("risk_diff")
    inputs = Inputs("", experts, rows, [SCORES.get("risk_diff_control"), risk_diff], risk_diff, None, routed)
    analysis = clock("statistics and selection", lambda: analyse(settings, 0, inputs, counts))
    selection = Selection(
        settings.method, settings.score, 0.0, settings.top_k, None, "", analysis.selected, analysis.per_batch
    )
    clock("write tables", lambda: write_risk(run, experts, rows, analysis.risk))
    clock("write the selection", lambda: write_selection(run, experts, selection))
    written = len(rows.batch_ids) * len(experts)
    print(f"{'together':<34}{clock.total:>8.1f} s, {written} rows of batch tables, peak {_peak():.0f} MB", flush=True)


class _Clock:
    """Prints what each step takes."""

    total = 0.0

    def __call__(self, name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = step()
        seconds = time.perf_counter() - start
        self.total += seconds
        print(f"{name:<34}{seconds:>8.1f} s   peak so far {_peak():>6.0f} MB", flush=True)
        return result


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
