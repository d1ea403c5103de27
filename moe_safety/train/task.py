"""What a worker is told: one phase of one arm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    made_in: str | None = None
    """The folder of another arm's phase, declared like this one: with the same `steps` it is this one."""
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
        return self._digest(self.arm, results_only(self.config.train))

    @property
    def steps(self) -> str:
        """The same, but for the arm's name and for how routers are taught: where the `experts` phases of two arms that
        are declared alike have the same steps, they leave the same, to the bit."""
        train = results_only(self.config.train)
        return self._digest("", {name: value for name, value in train.items() if name != "router"})

    @property
    def known_by(self) -> dict[str, str]:
        """What an outcome says of the task that it is of."""
        return {"identity": self.identity, "steps": self.steps}

    def _digest(self, name: str, train: dict[str, Any]) -> str:
        arm = self.declared
        decides = [
            name,
            arm.decides(self.config),
            arm.identity(self.config),
            train,
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
    def home(self) -> str:
        """The folder of all that trains the arm."""
        return self.folder.rsplit("/", 2)[0]

    @property
    def number(self) -> int:
        """Of the round."""
        return int(self.folder.rsplit("/", 2)[1].removeprefix("round_"))

    @property
    def place(self) -> tuple[int, int]:
        """The phase's place among all phases of all rounds, and their number."""
        phases = self.declared.phases
        return (self.number - 1) * len(phases) + phases.index(self.kind), self.config.train.num_rounds * len(phases)

    @property
    def title(self) -> str:
        """What is trained, in words."""
        rounds = self.config.train.num_rounds
        of_rounds = f", round {self.number}/{rounds}" if rounds > 1 else ""
        return f"{self.home.replace('/', ' ', 1)}{of_rounds}{', router' if self.kind == 'router' else ''}"

    @property
    def stop(self) -> str:
        """The file that asks whoever trains the arm to stop."""
        return stop_of(self.home)

    @property
    def reached(self) -> str:
        """The file that says how far the training is."""
        return reached_of(self.home)

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


def reached_of(folder: str) -> str:
    """The file that says how far the training of the arm of this folder is."""
    return f"{folder}/reached.json"
