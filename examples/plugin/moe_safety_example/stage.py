"""A stage: how far the experts that each batch selects are those that each category selects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.config import Config
from moe_safety.identify import SERVING
from moe_safety.pipeline import SELECTION, Stage

NAME = "batch-categories"
TABLE = "batch_categories.parquet"


def compare_with_categories(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes a row for each batch and category: how many experts both select, and their part of the union."""
    from moe_safety.pipeline.perform import perform
    from moe_safety.rundir import Outcome, RunDir, Work

    run = RunDir(config.run_dir)

    def body() -> Outcome:
        import pyarrow as pa

        table = pa.Table.from_pylist(list(_rows(run)))
        run.write_table(TABLE, table)
        return Outcome((TABLE,), {"rows": len(table)})

    work = Work(NAME, settings={}, reads=(SELECTION, SERVING))
    return perform(config, work, body, force=force)


def _rows(run: Any) -> Iterator[dict[str, Any]]:
    from moe_safety.identify import read_selection

    # That table says of each expert which categories select it.
    categories: dict[str, set[tuple[int, int]]] = {}
    for row in run.read_table(SERVING).to_pylist():
        for category in row["categories"]:
            categories.setdefault(category, set()).add((row["layer"], row["expert"]))
    for batch, chosen in read_selection(run).per_batch.items():
        for category, own in sorted(categories.items()):
            shared, union = len(own.intersection(chosen)), len(own.union(chosen))
            yield {"batch_idx": batch, "category": category, "shared": shared, "jaccard": shared / union}


def _lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    yield f"{NAME}: {manifest['summary']['rows']} pairs of a batch and a category"


BATCH_CATEGORIES = Stage(
    NAME,
    "compare the experts of each batch with those of each category",
    compare_with_categories,
    writes=(TABLE,),
    reads=lambda: (SELECTION, SERVING),
    lines=_lines,
)
