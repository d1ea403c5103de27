"""Evaluation: what models do on held-out prompts, and arms side by side."""

from __future__ import annotations

from typing import Any

from moe_safety.arms import arm_of
from moe_safety.config import Config
from moe_safety.evaluate.choice import on_validation
from moe_safety.evaluate.printing import SHORT, metrics, span, success, success_of, told_account
from moe_safety.pipeline import COMPARISON, EVALUATED, PROMPTS, RISK, SELECTION, STAGES, TRAINED, Stage

__all__ = ["SHORT", "metrics", "on_validation", "span", "success", "success_of", "told_account"]


def _is_asked_for(config: Config) -> bool:
    """Not where `compare` evaluates the same arm."""
    if config.evaluate.model_path is not None or not config.compare.arms:
        return True
    return arm_of(config).name not in config.compare.arms


def _names_arms(config: Config) -> bool:
    return bool(config.compare.arms)


def _evaluate(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.evaluate.stage import evaluate

    return evaluate(config, **options)


STAGES.add(
    Stage(
        "evaluate",
        "answer held-out prompts, judge, measure (Ray Data)",
        _evaluate,
        writes=(EVALUATED,),
        reads=lambda: (PROMPTS, RISK, SELECTION, TRAINED),
        needed_when=_is_asked_for,
    )
)


def _compare(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.evaluate.compare import compare

    return compare(config, **options)


STAGES.add(
    Stage(
        "compare",
        "train and evaluate all arms, side by side",
        _compare,
        writes=(COMPARISON,),
        reads=lambda: (PROMPTS, RISK, SELECTION, TRAINED, EVALUATED),
        needed_when=_names_arms,
    )
)
