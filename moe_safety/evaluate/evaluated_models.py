"""What is evaluated: the untouched base, an arm that `train` left, any other checkpoint, or a model that is steered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath

from moe_safety.arms import ARMS, BASE, SeededArm, arm_of, kind_of
from moe_safety.config import Config, ModelConfig
from moe_safety.errors import InputError
from moe_safety.generation import ENGINES, Ability, check_able
from moe_safety.identify import Pair, read_selection
from moe_safety.models.io import model_fingerprint
from moe_safety.rundir import RunDir, is_finished, summary_of

OF_BUDGETS = "budgets"
"""The folder of the results of the budget curve's arms."""
_FOLDERS = ("train", "validation", "tune", OF_BUDGETS)
"""Of `eval/`: the results on other splits, and those of sweeps."""
_COMPARISON = "comparison"
"""What stands beside the results on other splits."""


@dataclass(frozen=True)
class Subject:
    """A model under the name that its results have."""

    name: str
    model: ModelConfig
    avoided: tuple[Pair, ...] = ()
    """Experts that tokens are kept away from."""
    whole: ModelConfig | None = None
    """Where the model is its base with a delta: its checkpoint, if there is one, for engines that swap none in."""

    def opened_by(self, engine: str) -> ModelConfig:
        """What the engine is opened on: the same weights either way."""
        if self.model.delta is None or Ability.SWAPS_DELTA in ENGINES.get(engine).abilities:
            return self.model
        if self.whole is None:
            check_able(engine, Ability.SWAPS_DELTA, "evaluate.engine")
        return self.whole or self.model

    @property
    def identity(self) -> dict[str, str]:
        """Hashes of what answers."""
        steered = {"avoided": str(list(self.avoided))} if self.avoided else {}
        return {"model": model_fingerprint(self.model)} | steered


def base_subject(config: Config) -> Subject:
    """The model as it came."""
    return Subject(BASE, config.model)


def arm_subject(config: Config, run: RunDir, arm: str) -> Subject:
    """A trained arm: its delta on the base, so that a replica which has the base reads no weights; its checkpoint where
    there is no delta."""
    if not is_finished(run, f"train/{arm}"):
        raise InputError(f"`train/{arm}` has not been run yet; run `train`, or set evaluate.model_path", file=run.uri)
    trained = summary_of(run, f"train/{arm}")
    whole = checkpoint(config, run.uri_of(trained["final_model"])) if trained["final_model"] else None
    if delta := trained.get("delta"):
        return Subject(arm, config.model.with_delta(run.uri_of(delta)), whole=whole)
    assert whole is not None
    return Subject(arm, whole)


def seeded_subject(run: RunDir, arm: SeededArm) -> Subject:
    """An arm of a comparison: what it trained, or the base kept away from its experts."""
    if arm.arm.phases:
        return arm_subject(arm.config, run, arm.name)
    avoided = read_selection(run, arm.selection).experts if arm.arm.choice else ()
    return Subject(arm.name, arm.config.model, tuple(avoided))


def configured_subject(config: Config, run: RunDir) -> Subject:
    """What `evaluate` is asked about."""
    settings = config.evaluate
    if settings.model_path is None:
        arm = arm_subject(config, run, arm_of(config).name)
        subject = replace(arm, name=settings.output_name or arm.name)
    elif settings.model_path == config.model.name:
        return base_subject(config)
    else:
        name = settings.output_name or PurePath(settings.model_path).name
        subject = _as_arm(config, run, Subject(name, checkpoint(config, settings.model_path)))
    if taken := _taken(config, run, subject):
        raise InputError(f"'{subject.name}' {taken}; give another", key="evaluate.output_name")
    return subject


def _taken(config: Config, run: RunDir, subject: Subject) -> str | None:
    """What else has the name, if anything."""
    name = subject.name
    if name == BASE:
        return "is the model that `model.name` names"
    # A manifest's name has dots where its stage has slashes.
    if name.partition(".")[0] in _FOLDERS or name == _COMPARISON:
        return "is where other results stand"
    return None if _is_no_other_arm(config, run, subject) else "is an arm, and this is another model"


def _as_arm(config: Config, run: RunDir, subject: Subject) -> Subject:
    """The arm itself, where the subject is what that arm left under its own name."""
    if kind_of(subject.name) not in ARMS or not is_finished(run, f"train/{subject.name}"):
        return subject
    arm = arm_subject(config, run, subject.name)
    own = arm.whole
    same = own is not None and (own == subject.model or model_fingerprint(own) == model_fingerprint(subject.model))
    return arm if same else subject


def _is_no_other_arm(config: Config, run: RunDir, subject: Subject) -> bool:
    """The name of an arm, or of its repeat with another seed, is for what that arm trained."""
    if kind_of(subject.name) not in ARMS:
        return True
    if not is_finished(run, f"train/{subject.name}"):
        return False
    arm = arm_subject(config, run, subject.name)
    return arm == subject or arm.identity == subject.identity


def checkpoint(config: Config, path: str) -> ModelConfig:
    """Another model, loaded as the base is."""
    return config.model.model_copy(update={"name": path, "revision": None})
