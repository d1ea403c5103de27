"""From counts per prompt to sums per batch, category and resampling, in one pass over the parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from moe_safety.errors import InputError
from moe_safety.identify.places import LABELS, Places
from moe_safety.identify.sums import Partial, Reducer, Sums
from moe_safety.rundir import RunDir

DISTRIBUTE_ABOVE = 1_000_000
"""From how many prompts on Ray sums the parts."""


@dataclass(frozen=True)
class Reduction:
    """The sums that everything else is computed from."""

    batches: Sums
    categories: Sums
    resamples: Sums


def reduce_parts(
    run: RunDir, files: Sequence[str], reducer: Reducer, distribute_above: int = DISTRIBUTE_ABOVE
) -> Reduction:
    """Sums all parts, one at a time here or many at once on Ray: the same integers."""
    total = reducer.zeros()
    distribute = len(reducer.places.prompt_ids) > distribute_above
    for cells, sums in (_on_ray if distribute else _here)(run, files, reducer):
        total[cells] += sums
    groups = Sums(total.reshape(-1, len(LABELS), total.shape[1]))
    n_batches, n_categories, _ = reducer.groups
    middle = n_batches + n_categories
    return Reduction(groups[:n_batches], groups[n_batches:middle], groups[middle:])


def _here(run: RunDir, files: Sequence[str], reducer: Reducer) -> Iterator[Partial]:
    for name in files:
        yield reducer(run.read_table(name, reducer.reads))


def _on_ray(run: RunDir, files: Sequence[str], reducer: Reducer) -> Iterator[Partial]:
    import ray

    from moe_safety.jobs.cluster import connect

    connect()

    def sum_part(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        cells, sums = reducer(run.read_table(str(batch["file"][0]), reducer.reads))
        return {"cell": cells, "sums": sums}

    items = ray.data.from_items([{"file": name} for name in files], override_num_blocks=len(files))
    # The order matters to sums of weights alone, which are not integers.
    items.context.execution_options.preserve_order = True
    partials = items.map_batches(sum_part, batch_size=1)
    for block in partials.iter_batches(batch_size=None, batch_format="numpy"):
        yield block["cell"], block["sums"]


def check_coverage(run: RunDir, files: Sequence[str], places: Places) -> int:
    """Every prompt of the batches is counted once. Returns how many of them have no counted token."""
    times = np.zeros(len(places.prompt_ids), np.int64)
    uncounted = 0
    for name in files:
        part = run.read_table(name, ["prompt_id", "tokens"])
        found = places.prompt_ids.get_indexer(part["prompt_id"].to_pandas())
        np.add.at(times, found[found >= 0], 1)
        uncounted += int((part["tokens"].to_numpy()[found >= 0] == 0).sum())
    for wrong, complaint in ((times == 0, "do not hold"), (times > 1, "hold more than once")):
        if wrong.any():
            prompt = places.prompt_ids[int(np.argmax(wrong))]
            raise InputError(f"the counts {complaint} prompt {prompt} of the batches", file=run.path("routing"))
    return uncounted
