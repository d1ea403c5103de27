"""`run` and `demo`: every stage in order, each skipped where its work is done."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from moe_safety.config import Config

STAGES: dict[str, tuple[str, str]] = {
    "prepare": ("moe_safety.inputs.stage:prepare", "read attack, benign and control files, split by goal"),
    "respond": ("moe_safety.batches.respond:respond", "let the base model answer, judge, drop pairs that do not hold"),
    "compose": ("moe_safety.batches.compose:compose", "build the mixed batches with training targets"),
    "capture": ("moe_safety.routing.capture:capture", "count which experts every prompt is routed to (Ray Data)"),
    "gradients": ("moe_safety.gradients.stage:gradients", "per-expert gradient magnitudes of every batch (Ray Data)"),
    "effects": ("moe_safety.effects.stage:effects", "what holding back each expert does to refusal (Ray Data)"),
    "identify": ("moe_safety.identify.stage:identify", "risk differences, statistics, selection, masks"),
    "train": ("moe_safety.train.stage:train", "repair the selected experts: one arm (Ray Train, DeepSpeed)"),
    "evaluate": ("moe_safety.evaluate.stage:evaluate", "answer held-out prompts, judge, measure (Ray Data)"),
    "compare": ("moe_safety.evaluate.compare:compare", "train and evaluate all arms, side by side"),
    "report": ("moe_safety.report.stage:report", "one page that shows what was found, from whatever stages are there"),
}
"""The stages in order: where each one's function stands, and what it does."""


def run_one(stage: str, config: Config, *, force: bool = False, **options: Any) -> dict[str, Any]:
    """One stage, with options of its own; returns its manifest."""
    module, function = STAGES[stage][0].split(":")
    return getattr(import_module(module), function)(config, force=force, **options)


def run_all(config: Config, *, force: bool = False) -> None:
    """Every stage. The arm of `train` is not trained and evaluated by itself where `compare` does that anyway."""
    for stage in STAGES:
        if stage not in _left_out(config):
            run_one(stage, config, force=force)


def _left_out(config: Config) -> set[str]:
    from moe_safety.arms import arm_of

    if not config.compare.arms:
        return {"compare"}
    covered = arm_of(config).name in config.compare.arms
    return ({"train"} | ({"evaluate"} if config.evaluate.model_path is None else set())) if covered else set()
