"""One YAML file, checked strictly. `Config` is the root; each section stands in the file of its name."""

from moe_safety.config.base import ModelJob, Place, Section, resource, results_only, without_secrets
from moe_safety.config.batches import BatchesConfig
from moe_safety.config.capture import CaptureConfig
from moe_safety.config.compare import CompareConfig, MarginsConfig
from moe_safety.config.data import NUMBERING, DataConfig, DerivedControls, Source, WrapperName
from moe_safety.config.effects import EffectsConfig
from moe_safety.config.evaluate import EvaluateConfig
from moe_safety.config.gradients import GradientsConfig
from moe_safety.config.identify import BY_CHANCE, IdentifyConfig
from moe_safety.config.judges import CalibrationsConfig, JudgeOf, JudgesConfig, JudgeSettings, Question, RulesSettings
from moe_safety.config.load import dump_config, load_config, models_in
from moe_safety.config.model import ModelConfig
from moe_safety.config.names import ARMS, ENGINES, FORMATS, JUDGES, LOSSES, SCORES
from moe_safety.config.registry import NameIn, Registry
from moe_safety.config.respond import RespondConfig
from moe_safety.config.root import Config
from moe_safety.config.space import Domain, Point
from moe_safety.config.suites import SuiteConfig
from moe_safety.config.sweep import MEASURES, Sweep
from moe_safety.config.sweepfile import SweepFile, dump_sweep, load_sweep
from moe_safety.config.train import KL, RouterConfig, TrainConfig

__all__ = [
    "ARMS",
    "BY_CHANCE",
    "ENGINES",
    "FORMATS",
    "JUDGES",
    "KL",
    "LOSSES",
    "MEASURES",
    "NUMBERING",
    "SCORES",
    "BatchesConfig",
    "CalibrationsConfig",
    "CaptureConfig",
    "CompareConfig",
    "Config",
    "DataConfig",
    "DerivedControls",
    "Domain",
    "EffectsConfig",
    "EvaluateConfig",
    "GradientsConfig",
    "IdentifyConfig",
    "JudgeOf",
    "JudgeSettings",
    "JudgesConfig",
    "MarginsConfig",
    "ModelConfig",
    "ModelJob",
    "NameIn",
    "Place",
    "Point",
    "Question",
    "Registry",
    "RespondConfig",
    "RouterConfig",
    "RulesSettings",
    "Section",
    "Source",
    "SuiteConfig",
    "Sweep",
    "SweepFile",
    "TrainConfig",
    "WrapperName",
    "dump_config",
    "dump_sweep",
    "load_config",
    "load_sweep",
    "models_in",
    "resource",
    "results_only",
    "without_secrets",
]
