"""Effects: what holding back each expert does to refusal."""

from __future__ import annotations

from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline import BATCHES, EXPERT_EFFECTS, PROMPTS, STAGES, Stage


def _effects(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.effects.stage import effects

    return effects(config, **options)


STAGES.add(
    Stage(
        "effects",
        "what holding back each expert does to refusal (Ray Data)",
        _effects,
        writes=(EXPERT_EFFECTS,),
        reads=lambda: (PROMPTS, BATCHES),
    )
)
