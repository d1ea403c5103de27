"""Selection sweeps: no model runs, and a trial takes milliseconds, so actors are kept and given one after another."""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

import moe_safety.tune.names  # noqa: F401
from moe_safety.config import SweepFile
from moe_safety.errors import MoeSafetyError
from moe_safety.jobs.cluster import connect
from moe_safety.tune.records import Record, Records
from moe_safety.tune.runner import ERROR, run_trials
from moe_safety.tune.search import ROUND
from moe_safety.tune.selection.ground import Ground


def sweep_selections(file: SweepFile, records: Records, ground: Ground) -> list[Record]:
    """Tries selections on Ray Tune; returns the records of all trials."""
    connect()
    cores = int(ray.cluster_resources().get("CPU", 1))
    at_once = cores if file.sweep.parallel == "auto" else file.sweep.parallel
    trainable = tune.with_parameters(SelectionTrial, ground=ground, file=file)
    return run_trials(file.sweep, records, trainable, resources={"cpu": 1}, at_once=at_once, reuse=True)


class SelectionTrial(tune.Trainable):
    """Measures one selection and is done."""

    def setup(self, config: dict[str, Any], ground: Ground, file: SweepFile) -> None:
        """Takes what all trials share, and the first point."""
        self.point, self.ground, self.file = config["point"], ground, file

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes another point: the process goes on to measure it."""
        self.point = new_config["point"]
        return True

    def step(self) -> dict[str, Any]:
        try:
            config = self.file.at(self.point)
            found: dict[str, Any] = self.ground.measure(config.identify, config.seed)
        except MoeSafetyError as error:
            found = {ERROR: str(error)} | dict.fromkeys(self.file.sweep.goals, float("nan"))
        return found | {ROUND: 1, "rounds": 1, "done": True}
