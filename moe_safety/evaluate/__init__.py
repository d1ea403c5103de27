"""Evaluation: what models do on held-out prompts, and arms side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.arms import arm_of
from moe_safety.config import Config
from moe_safety.evaluate.choice import on_validation
from moe_safety.evaluate.printing import SHORT, metrics, span, subject_lines, success, success_of, told_account
from moe_safety.pipeline import COMPARISON, EVALUATED, PROMPTS, RISK, SELECTION, STAGES, TRAINED, Flag, Stage

__all__ = ["SHORT", "metrics", "on_validation", "span", "success", "success_of", "told_account"]


def _is_asked_for(config: Config) -> bool:
    """Not where `compare` evaluates the same arm."""
    if config.evaluate.model_path is not None or not config.compare.arms:
        return True
    return arm_of(config).name not in config.compare.arms


def _names_arms(config: Config) -> bool:
    return bool(config.compare.arms)


def _evaluate(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.evaluate.evaluate import evaluate

    return evaluate(config, **options)


def _evaluate_lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    from moe_safety.rundir import RunDir

    report = next(name for name in manifest["outputs"] if name.endswith(".json"))
    return subject_lines(RunDir(config.run_dir).read_json(report))


STAGES.add(
    Stage(
        "evaluate",
        "answer held-out prompts, judge, measure (Ray Data)",
        _evaluate,
        writes=(EVALUATED,),
        reads=lambda: (PROMPTS, RISK, SELECTION, TRAINED),
        lines=_evaluate_lines,
        section="evaluate",
        needs_model=True,
        needed_when=_is_asked_for,
        example="--set train.arm=selective-causal",
    )
)


def _compare(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.evaluate.compare import compare

    return compare(config, **options)


def _compare_lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    yield f"compare: {len(config.compare.arms)} arms"


_GATE = (
    "such as asr<=0.05,over_refusal<=0.02: exit 1 when an arm that the configuration names, the base apart, misses one"
)

STAGES.add(
    Stage(
        "compare",
        "train and evaluate all arms, side by side",
        _compare,
        writes=(COMPARISON,),
        reads=lambda: (PROMPTS, RISK, SELECTION, TRAINED, EVALUATED),
        lines=_compare_lines,
        section="compare",
        needs_model=True,
        needed_when=_names_arms,
        flags=(Flag("gate", _GATE, "LIMITS"), Flag("wide", "print all rates, wider than 80 columns")),
        example="--gate 'asr<=0.05,over_refusal<=0.02'",
        look_at=(COMPARISON.replace(".json", ".md"),),
    )
)
