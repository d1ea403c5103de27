"""`prepare`: prompts from files, split by goal."""

from __future__ import annotations

from functools import partial
from typing import Any

from moe_safety.config import Config, Source, results_only
from moe_safety.inputs.prepare import read_prompts
from moe_safety.inputs.sources import digests, formats_brought
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage


def prepare(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `prompts.parquet`."""
    run = RunDir(config.run_dir)
    stage = Stage(
        "prepare",
        settings={"seed": config.seed, "data": results_only(config.data)},
        others=digests(_sources(config)) | formats_brought(_sources(config)),
    )
    manifest = run_stage(run, stage, config.model_dump(mode="json"), partial(_prepare, config, run), force=force)
    _print(manifest["summary"])
    return manifest


def _sources(config: Config) -> list[Source]:
    data = config.data
    return [*data.attacks, *data.benign, *(data.controls if isinstance(data.controls, list) else [])]


def _prepare(config: Config, run: RunDir) -> Outcome:
    prepared = read_prompts(config.data, config.seed)
    run.write_table("prompts.parquet", prepared.table)
    return Outcome(outputs=("prompts.parquet",), summary=prepared.counts)


def _print(counts: dict[str, Any]) -> None:
    for source in counts["sources"]:
        print(f"prepare: {source['source']} ({source['format']}): {source['rows']} rows, {_list(source['prompts'])}")
        if source["dropped"]:
            print(f"  left out: {_list(source['dropped'])}")
        for note in source["notes"]:
            print(f"  {note}")
    for label, splits in counts["labels"].items():
        print(f"  {label}: {_list(splits)}")
    print(f"  {counts['goals']} goals, {counts['duplicates']} duplicate prompts merged")


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
