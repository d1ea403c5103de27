"""What training did, arm by arm: its loss, and how far it moved each expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from moe_safety.arms import kind_of
from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.identify import Experts, Pair
from moe_safety.models.io import check_loadable, model_fingerprint, model_folder
from moe_safety.report.context.experts import cells, grid_of
from moe_safety.report.figures.heatmap import Grid
from moe_safety.rundir import RunDir
from moe_safety.train.train import METADATA


@dataclass(frozen=True)
class Curve:
    """The loss of one phase, over all rounds."""

    phase: str
    """`experts` or `router`; their losses are not of one kind."""
    loss: list[float]
    rounds: dict[str, int]
    """The step that each round but the first begins with."""


@dataclass(frozen=True)
class Trained:
    """One arm."""

    name: str
    settings: dict[str, Any]
    """The section `train` of the configuration."""
    figures: dict[str, Any]
    """`training_metadata.json` without its log."""
    curves: list[Curve]
    experts: list[Pair]
    """Those that might change; none where every parameter trained."""
    change: Grid | None
    """Relative change of each expert; nothing where the base is not at hand."""
    marked: list[tuple[int, int]]
    """Cells of the experts that might change."""


def read_training(run: RunDir, manifests: dict[str, dict[str, Any]], model: ModelConfig) -> list[Trained]:
    """Every arm whose training is done, in the order of training; repeats with other seeds show nothing new."""
    done = {stage.removeprefix("train/"): one for stage, one in manifests.items() if stage.startswith("train/")}
    return [_trained(run, arm, manifest, model) for arm, manifest in done.items() if kind_of(arm) == arm]


def _trained(run: RunDir, arm: str, manifest: dict[str, Any], model: ModelConfig) -> Trained:
    figures = run.read_json(f"train/{arm}/{METADATA}")
    log = figures.pop("training_logs")
    phases = dict.fromkeys(row["phase"] for row in log)
    curves = [_curve(phase, [row for row in log if row["phase"] == phase]) for phase in phases]
    movable = [(layer, expert) for layer, expert in manifest["summary"]["experts"]]
    change, marked = _change(run, manifest, movable, model)
    return Trained(arm, manifest["settings"]["train"], figures, curves, movable, change, marked)


def _curve(phase: str, log: list[dict[str, Any]]) -> Curve:
    rounds = [row["round"] for row in log]
    begins = {f"round {number}": rounds.index(number) for number in dict.fromkeys(rounds)}
    return Curve(phase, [row["loss"] for row in log], dict(list(begins.items())[1:]))


def _change(
    run: RunDir, manifest: dict[str, Any], movable: list[Pair], model: ModelConfig
) -> tuple[Grid | None, list[tuple[int, int]]]:
    """Of the experts that might change; of all where every parameter trained."""
    from moe_safety.report.change import relative_change

    try:
        if model_fingerprint(model) != manifest["inputs"]["model"]:
            return None, []
        experts = Experts.of_layout(check_loadable(model))
        final, delta = manifest["summary"]["final_model"], manifest["summary"].get("delta")
        with run.reading_file(delta) if delta else run.reading(final) as tuned:
            trusted = model.trust_remote_code
            found = relative_change(model_folder(model), tuned, movable or None, trust_remote_code=trusted)
    except InputError:
        return None, []
    values = np.full(len(experts), np.nan)
    values[experts.find(found)] = list(found.values())
    return grid_of(experts, values), cells(experts, movable)
