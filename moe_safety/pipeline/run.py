"""Stages run: one by its name, or all that the configuration asks for, each skipped where its work is done."""

from __future__ import annotations

from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline.order import in_order
from moe_safety.pipeline.stage import STAGES


def run_one(stage: str, config: Config, *, force: bool = False, **options: Any) -> dict[str, Any]:
    """One stage, with options of its own; returns its manifest."""
    from moe_safety.rundir import accounted

    with accounted():
        return STAGES.get(stage).run(config, force=force, **options)


def run_all(config: Config, *, force: bool = False) -> None:
    """Every stage that the configuration needs, in order."""
    for stage in in_order(STAGES):
        if stage.needed_when(config):
            run_one(stage.name, config, force=force)
