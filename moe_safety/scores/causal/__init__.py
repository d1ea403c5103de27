"""Scores from effects: what holding an expert back does to the refusal margin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from moe_safety.effects.table import per_expert
from moe_safety.pipeline import EXPERT_EFFECTS
from moe_safety.routing.table import layout_of
from moe_safety.scores.score import Reads

if TYPE_CHECKING:
    import pyarrow as pa

    from moe_safety.config import Config
    from moe_safety.rundir import RunDir

SIGN = "more is guiltier: above 0 the model is nearer to refusing attacks without the expert, below 0 farther from that"
UNIT = "nats by token of the answer's opening"


def _settings(config: Config) -> dict[str, Any]:
    from moe_safety.effects.effects import settings_of

    return settings_of(config)


def _collected(run: RunDir) -> list[pa.Table]:
    from moe_safety.effects.effects import estimates_by_prompt, measured_by_prompt

    return [measured_by_prompt(run), estimates_by_prompt(run)]


def _fold(tables: Sequence[pa.Table]) -> pa.Table | None:
    """Nothing where there is no attack to learn it from."""
    measured, foreseen = tables
    attacked = "unsafe" in measured["label"].to_pylist()
    return per_expert(measured, foreseen, layout_of(measured.schema)) if attacked else None


EFFECTS = Reads("effects", EXPERT_EFFECTS, _settings, _collected, _fold)
