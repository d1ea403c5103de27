"""`prepare`: from the configured sources to the table of prompts, split by goal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from moe_safety.config import Config, DataConfig, DerivedControls, Source, results_only
from moe_safety.errors import InputError
from moe_safety.inputs.collect import Collector
from moe_safety.inputs.record import Role
from moe_safety.inputs.sources import SourceRows, digests, formats_brought, read_source
from moe_safety.inputs.table import Spooled
from moe_safety.pipeline import PROMPTS
from moe_safety.pipeline.perform import perform
from moe_safety.rundir import Outcome, RunDir, Work, spent


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
    with spent("writing"), RunDir(config.run_dir).writing(PROMPTS) as path:
        prepared.prompts.write(path)
    return Outcome(outputs=(PROMPTS,), summary=prepared.counts)


@dataclass(frozen=True)
class Prepared:
    """What becomes `prompts.parquet`, and the account of how it came about as plain data."""

    prompts: Spooled
    counts: dict[str, Any]

    @property
    def table(self) -> pa.Table:
        """The table."""
        return self.prompts.table


def read_prompts(data: DataConfig, seed: int) -> Prepared:
    """Reads all sources, makes their prompts, and splits them by goal."""
    attacks = _read_all("attacks", data.attacks, data)
    benign = _read_all("benign", data.benign, data)
    controls = [] if isinstance(data.controls, DerivedControls) else _read_all("controls", data.controls, data)

    collector = Collector(data.system)
    collector.add_attacks(attacks)
    collector.add_benign(benign)
    collector.add_controls(controls)
    if isinstance(data.controls, DerivedControls):
        collector.derive_controls(data.controls.wrapper)

    prompts = collector.close(data.test_fraction, data.validation_fraction, seed)
    return Prepared(prompts, _counts([*attacks, *benign, *controls], collector.goals, prompts.table))


def _read_all(role: Role, sources: Sequence[Source], data: DataConfig) -> list[SourceRows]:
    read = [read_source(source, role, data) for source in sources]
    if read and not any(len(result.rows) for result in read):
        dropped = sum((result.dropped for result in read), Counter[str]())
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        files = ", ".join(source.label for source in sources)
        raise InputError(f"no prompt is left of {dropped.total()} rows: {reasons}", file=files, key=f"data.{role}")
    return read


def _counts(sources: Sequence[SourceRows], goals: int, table: pa.Table) -> dict[str, Any]:
    labels: dict[str, dict[str, int]] = {}
    for row in table.group_by(["label", "split"], use_threads=False).aggregate([([], "count_all")]).to_pylist():
        labels.setdefault(row["label"], {})[row["split"]] = row["count_all"]
    return {
        "sources": [source.account() for source in sources],
        "labels": labels,
        "goals": goals,
        "duplicates": sum(source.duplicates.total() for source in sources),
    }
