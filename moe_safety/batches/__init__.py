"""Mixed batches: what the base model answers, and the prompts, answers and targets of every batch."""

from __future__ import annotations

from typing import Any

from moe_safety.batches.examples import Batch, Example
from moe_safety.batches.printing import compose_lines, respond_lines
from moe_safety.batches.warnings import foreign_answers, nothing_harmless
from moe_safety.config import Config
from moe_safety.pipeline import BATCHES, PROMPTS, RESPONSES, STAGES, Stage

__all__ = [
    "Batch",
    "Example",
    "foreign_answers",
    "nothing_harmless",
]


def _respond(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.batches.respond import respond

    return respond(config, **options)


STAGES.add(
    Stage(
        "respond",
        "let the base model answer, judge, drop pairs that do not hold",
        _respond,
        writes=(RESPONSES,),
        reads=lambda: (PROMPTS,),
        lines=respond_lines,
        section="respond",
        needs_model=True,
        example="--set respond.recorded=false",
    )
)


def _compose(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.batches.compose import compose

    return compose(config, **options)


STAGES.add(
    Stage(
        "compose",
        "build the mixed batches with training targets",
        _compose,
        writes=(BATCHES,),
        reads=lambda: (PROMPTS, RESPONSES),
        lines=compose_lines,
        section="batches",
    )
)
