"""The whole configuration: one YAML file, one section per room."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from moe_safety.config.base import Place, Section, in_full
from moe_safety.config.batches import BatchesConfig
from moe_safety.config.capture import CaptureConfig
from moe_safety.config.compare import CompareConfig
from moe_safety.config.data import DataConfig
from moe_safety.config.effects import EffectsConfig
from moe_safety.config.evaluate import EvaluateConfig
from moe_safety.config.gradients import GradientsConfig
from moe_safety.config.identify import IdentifyConfig
from moe_safety.config.judges import JudgesConfig, refuse_old_judge
from moe_safety.config.model import ModelConfig
from moe_safety.config.names import ARMS, ENGINES, SCORES
from moe_safety.config.registry import SectionsOf
from moe_safety.config.respond import RespondConfig
from moe_safety.config.train import TrainConfig


class Config(Section):
    """The whole configuration of a run."""

    run_dir: Place
    """Where everything is written: a folder, or a URI that pyarrow understands (`s3://bucket/prefix`)."""
    seed: int = Field(42, ge=0)
    """Fixes splits, templates, sampling and the order of batches."""
    model: ModelConfig
    data: DataConfig
    respond: RespondConfig = RespondConfig()
    judges: JudgesConfig = JudgesConfig()
    batches: BatchesConfig = BatchesConfig()
    capture: CaptureConfig = CaptureConfig()
    gradients: GradientsConfig = GradientsConfig()
    effects: EffectsConfig = EffectsConfig()
    identify: IdentifyConfig = Field(default_factory=IdentifyConfig)
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    compare: CompareConfig = CompareConfig()
    scores: Annotated[dict[str, Any], SectionsOf(SCORES)] = Field(default_factory=dict)
    """Settings of scores that take some, by their names."""
    arms: Annotated[dict[str, Any], SectionsOf(ARMS)] = Field(default_factory=dict)
    """The same for arms."""
    engines: Annotated[dict[str, Any], SectionsOf(ENGINES)] = Field(default_factory=dict)
    """The same for engines."""

    @field_validator("run_dir")
    @classmethod
    def _run_dir_in_full(cls, given: str) -> str:
        return in_full(given)

    @field_validator("model")
    @classmethod
    def _model_in_full(cls, given: ModelConfig) -> ModelConfig:
        """A folder that is there; any other name is the demo's or one of the hub."""
        is_folder = given.name != "demo" and os.path.isdir(given.name)
        return given.model_copy(update={"name": in_full(given.name)}) if is_folder else given

    @model_validator(mode="after")
    def _harm_is_judged_throughout(self) -> Config:
        """Or the suites' harm would stand beside the others' answers under one name."""
        if not self.judges.harm and (judged := next((one.name for one in self.evaluate.suites if one.harm), None)):
            raise ValueError(f"the suite {judged} has a judge of harm, and judges.harm names none for the others")
        return self

    @classmethod
    def _of_unknown(cls, key: str, value: Any, known: list[str]) -> str:
        return refuse_old_judge(value) if key == "judge" else super()._of_unknown(key, value, known)
