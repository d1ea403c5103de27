"""Identification: from routing, gradients and effects to a selection of experts."""

from __future__ import annotations

from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline import STAGES, Stage
from moe_safety.pipeline.artifacts import BATCHES, PROMPTS, RISK, ROUTING, SELECTION
from moe_safety.scores import score_tables


def _identify(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.identify.stage import identify

    return identify(config, **options)


STAGES.add(
    Stage(
        "identify",
        "risk differences, statistics, selection, masks",
        _identify,
        writes=(RISK, SELECTION),
        reads=lambda: (PROMPTS, BATCHES, ROUTING, *(table for table in score_tables() if table != RISK)),
    )
)
