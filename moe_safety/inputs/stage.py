"""`prepare`: prompts from files, split by goal."""

from __future__ import annotations

from functools import partial
from typing import Any

from moe_safety.config import Config, Source, results_only
from moe_safety.inputs.prepare import read_prompts
from moe_safety.inputs.sources import digests, formats_brought
from moe_safety.pipeline import PROMPTS
from moe_safety.pipeline.perform import perform
from moe_safety.rundir import Outcome, RunDir, Work


def prepare(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `prompts.parquet`."""
    work = Work(
        "prepare",
        settings={"seed": config.seed, "data": results_only(config.data)},
        others=digests(_sources(config)) | formats_brought(_sources(config)),
    )
    return perform(config, work, partial(_prepare, config), force=force)


def _sources(config: Config) -> list[Source]:
    data = config.data
    return [*data.attacks, *data.benign, *(data.controls if isinstance(data.controls, list) else [])]


def _prepare(config: Config) -> Outcome:
    prepared = read_prompts(config.data, config.seed)
    RunDir(config.run_dir).write_table(PROMPTS, prepared.table)
    return Outcome(outputs=(PROMPTS,), summary=prepared.counts)
