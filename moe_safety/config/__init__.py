"""One YAML file, checked strictly. `Config` is the root; each section stands in the file of its name."""

from moe_safety.config.base import ModelJob, Section, results_only, without_secrets
from moe_safety.config.batches import BatchesConfig
from moe_safety.config.capture import CaptureConfig
from moe_safety.config.compare import CompareConfig
from moe_safety.config.data import DataConfig, DerivedControls, Source, WrapperName
from moe_safety.config.effects import EffectsConfig
from moe_safety.config.evaluate import EvaluateConfig
from moe_safety.config.gradients import GradientsConfig
from moe_safety.config.identify import IdentifyConfig
from moe_safety.config.judges import JudgesConfig, JudgeSettings, Question
from moe_safety.config.load import dump_config, load_config
from moe_safety.config.model import ModelConfig
from moe_safety.config.respond import RespondConfig
from moe_safety.config.root import Config
from moe_safety.config.train import KL, RouterConfig, TrainConfig

__all__ = [
    "KL",
    "BatchesConfig",
    "CaptureConfig",
    "CompareConfig",
    "Config",
    "DataConfig",
    "DerivedControls",
    "EffectsConfig",
    "EvaluateConfig",
    "GradientsConfig",
    "IdentifyConfig",
    "JudgeSettings",
    "JudgesConfig",
    "ModelConfig",
    "ModelJob",
    "Question",
    "RespondConfig",
    "RouterConfig",
    "Section",
    "Source",
    "TrainConfig",
    "WrapperName",
    "dump_config",
    "load_config",
    "results_only",
    "without_secrets",
]
