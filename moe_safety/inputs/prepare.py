"""From the configured sources to the table of prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from moe_safety.config import DataConfig, DerivedControls, Source
from moe_safety.errors import InputError
from moe_safety.inputs.collect import Collector
from moe_safety.inputs.record import Role
from moe_safety.inputs.sources import SourceRows, read_source
from moe_safety.inputs.split import check_no_leak


@dataclass(frozen=True)
class Prepared:
    """The table of `prompts.parquet`, and the account of how it came about as plain data."""

    table: pa.Table
    counts: dict[str, Any]


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

    table = collector.table(data.test_fraction, data.validation_fraction, seed)
    check_no_leak(table)
    return Prepared(table, _counts([*attacks, *benign, *controls], table))


def _read_all(role: Role, sources: Sequence[Source], data: DataConfig) -> list[SourceRows]:
    read = [read_source(source, role, data) for source in sources]
    if read and not any(result.rows for result in read):
        dropped = sum((result.dropped for result in read), Counter[str]())
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        files = ", ".join(source.label for source in sources)
        raise InputError(f"no prompt is left of {dropped.total()} rows: {reasons}", file=files, key=f"data.{role}")
    return read


def _counts(sources: Sequence[SourceRows], table: pa.Table) -> dict[str, Any]:
    labels: dict[str, dict[str, int]] = {}
    for row in table.group_by(["label", "split"], use_threads=False).aggregate([([], "count_all")]).to_pylist():
        labels.setdefault(row["label"], {})[row["split"]] = row["count_all"]
    return {
        "sources": [source.account() for source in sources],
        "labels": labels,
        "goals": len(table["goal_id"].unique()),
        "duplicates": sum(source.duplicates.total() for source in sources),
    }
