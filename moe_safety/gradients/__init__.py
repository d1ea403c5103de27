"""Gradients: which experts would have to change for unsafe prompts to get their safe answers."""

from __future__ import annotations

from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline import BATCHES, EXPERT_GRADIENTS, STAGES, Stage


def _gradients(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.gradients.stage import gradients

    return gradients(config, **options)


STAGES.add(
    Stage(
        "gradients",
        "per-expert gradient magnitudes of every batch (Ray Data)",
        _gradients,
        writes=(EXPERT_GRADIENTS,),
        reads=lambda: (BATCHES,),
    )
)
