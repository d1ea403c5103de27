"""What a worker is told: one phase of one arm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from moe_safety.arms import ARMS, Arm, Phase
from moe_safety.config import Config, results_only
from moe_safety.identify import Pair
from moe_safety.models import MoELayout


@dataclass(frozen=True)
class Task:
    """The task of the workers that train one phase of an arm."""

    arm: str
    """The arm's name: a worker looks it up, since functions do not travel."""
    config: Config
    """Its model is the one that the phase starts from."""
    layout: MoELayout
    kind: Phase
    folder: str
    """Of the run directory: the phase's checkpoints, outcome and model go there."""
    inputs: str
    """A hash of the batches and of the model that the phase starts from."""
    masks: Mapping[int, list[Pair]] = field(default_factory=dict)
    """The experts that each batch may move; where the arm has none of its own, those that it is to be as large as."""
    weights: Mapping[int, float] = field(default_factory=dict)
    begins_at_base: bool = True
    """Whether that model is the run's base, with a delta or without: then what changed of the base can be said."""

    @property
    def declared(self) -> Arm:
        """The declaration of the arm, with its settings."""
        return ARMS.get(self.arm).of(self.config)

    @property
    def epochs(self) -> int:
        """Passes over all batches."""
        settings = self.config.train
        return settings.router.num_epochs if self.kind == "router" else settings.num_epochs

    @property
    def union(self) -> list[Pair]:
        """Every expert that some batch may move."""
        return sorted(set().union(*self.masks.values()))

    @property
    def identity(self) -> str:
        """Everything that decides the steps: a checkpoint of another task is not gone on from."""
        arm = self.declared
        decides = [
            arm.name,
            arm.decides(self.config),
            arm.identity(self.config),
            results_only(self.config.train),
            self.config.seed,
            self.kind,
            self.inputs,
            self.layout.fingerprint(),
            sorted(self.masks.items()),
            sorted(self.weights.items()),
            self.config.model.dtype,
            self.config.capture.tokens if self.kind == "router" else None,
        ]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()

    @property
    def outcome(self) -> str:
        """The name of the file in which the task's outcome is left."""
        return f"{self.folder}/outcome.json"

    @property
    def stop(self) -> str:
        """The file that asks whoever trains the arm to stop."""
        return stop_of(self.folder.rsplit("/", 2)[0])

    @property
    def told(self) -> str:
        """Where worker 0 leaves what the driver prints."""
        return f"{self.folder}/told"

    @property
    def model_folder(self) -> str:
        """The folder in which the trained model is left."""
        return f"{self.folder}/model"

    @property
    def delta(self) -> str:
        """The file of what the model changed of the run's base, where that can be said."""
        return f"{self.folder}/delta.safetensors"


def stop_of(folder: str) -> str:
    """The file that asks whoever trains the arm of this folder to stop."""
    return f"{folder}/stop"
