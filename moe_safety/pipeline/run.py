"""Stages run: one by its name, or all that the configuration asks for, each skipped where its work is done."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline.order import in_order
from moe_safety.pipeline.stage import STAGES, Manifest

QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether stages keep what sums them up to themselves."""


def run_one(stage: str, config: Config, *, force: bool = False, quiet: bool = False, **options: Any) -> Manifest:
    """One stage, with options of its own; returns its manifest, with what it `took` this time. Meanwhile it is said
    what it is at."""
    from moe_safety.jobs import Progress, phase_of
    from moe_safety.rundir import Account, accounted, watched

    doing, before = watched(), QUIET.set(quiet or QUIET.get())
    try:
        with accounted(), Progress(stage, None, lambda: phase_of(doing())):
            account = Account()
            return STAGES.get(stage).run(config, force=force, **options) | {"took": account.told()}
    finally:
        QUIET.reset(before)


def run_all(config: Config, *, force: bool = False) -> dict[str, Manifest]:
    """Every stage that the configuration needs, in order; returns their manifests by stage."""
    needed = [stage.name for stage in in_order(STAGES) if stage.needed_when(config)]
    return {stage: run_one(stage, config, force=force) for stage in needed}
