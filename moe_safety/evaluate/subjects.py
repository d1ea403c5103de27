"""What is evaluated: the untouched base, an arm that `train` left, any other checkpoint, or a model that is steered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from moe_safety.config import Config, ModelConfig
from moe_safety.errors import InputError
from moe_safety.identify.experts import Pair
from moe_safety.models.load import model_fingerprint
from moe_safety.rundir import RunDir, is_finished, summary_of
from moe_safety.train.arms import arm_name

BASE = "base"


@dataclass(frozen=True)
class Subject:
    """A model under the name that its results have."""

    name: str
    model: ModelConfig
    avoided: tuple[Pair, ...] = ()
    """Experts that tokens are kept away from."""

    @property
    def identity(self) -> dict[str, str]:
        """Hashes of what answers."""
        steered = {"avoided": str(list(self.avoided))} if self.avoided else {}
        return {"model": model_fingerprint(self.model)} | steered


def base_subject(config: Config) -> Subject:
    """The model as it came."""
    return Subject(BASE, config.model)


def arm_subject(config: Config, run: RunDir, arm: str) -> Subject:
    """A trained arm."""
    if not is_finished(run, f"train/{arm}"):
        raise InputError(f"`train/{arm}` has not been run yet; run `train`, or set evaluate.model_path", file=run.uri)
    return Subject(arm, checkpoint(config, run.path(summary_of(run, f"train/{arm}")["final_model"])))


def configured_subject(config: Config, run: RunDir) -> Subject:
    """What `evaluate` is asked about."""
    settings = config.evaluate
    if settings.model_path is None:
        arm = arm_subject(config, run, arm_name(config))
        return Subject(settings.output_name or arm.name, arm.model)
    if settings.model_path == config.model.name:
        return base_subject(config)
    name = settings.output_name or PurePath(settings.model_path).name
    if name == BASE:
        raise InputError(f"'{BASE}' is the model that `model.name` names; give another", key="evaluate.output_name")
    return Subject(name, checkpoint(config, settings.model_path))


def checkpoint(config: Config, path: str) -> ModelConfig:
    """Another model, loaded as the base is."""
    return config.model.model_copy(update={"name": path, "revision": None})
