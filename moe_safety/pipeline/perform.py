"""The way of every stage: open the run directory, do the work unless it is done, sum it up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline.stage import STAGES
from moe_safety.rundir import Outcome, RunDir, Work, run_work

Manifest = dict[str, Any]


def perform(
    config: Config,
    work: Work,
    body: Callable[[], Outcome],
    lines: Callable[[Manifest], Iterable[str]],
    *,
    check: Callable[[], object] = lambda: None,
    force: bool = False,
    quiet: bool = False,
) -> Manifest:
    """The manifest of the work. `lines` sum it up, unless it is to be `quiet`, the first of them alone where the work
    was done already; the rest is as in `run_work`. A stage of another package is part of what decides its work."""
    stage = work.name.partition("/")[0]
    if stage in STAGES:
        work = replace(work, others={**work.others, **STAGES.identity(stage)})
    manifest = run_work(RunDir(config.run_dir), work, config.model_dump(mode="json"), body, check=check, force=force)
    told = iter(() if quiet else lines(manifest))
    if manifest["skipped"]:
        told = (f"{line} (unchanged)" for line in islice(told, 1))
    for line in told:
        print(line, flush=True)
    return manifest
