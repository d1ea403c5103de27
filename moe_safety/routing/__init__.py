"""Routing: which experts the tokens of every prompt are routed to."""

from __future__ import annotations

from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline import BATCHES, ROUTING, STAGES, Stage


def _capture(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.routing.capture import capture

    return capture(config, **options)


STAGES.add(
    Stage(
        "capture",
        "count which experts every prompt is routed to (Ray Data)",
        _capture,
        writes=(ROUTING,),
        reads=lambda: (BATCHES,),
    )
)
