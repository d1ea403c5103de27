"""Identification: from routing, gradients and effects to a selection of experts."""

from __future__ import annotations

from typing import Any

from moe_safety.config import Config
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.overlap import AGREEMENT, OVERLAP, SERVING, jaccard
from moe_safety.identify.printing import summary_lines
from moe_safety.identify.select import Scored, draw_like, select
from moe_safety.identify.selection import Selection, read_selection
from moe_safety.pipeline import BATCHES, PROMPTS, RISK, ROUTING, SELECTION, STAGES, Stage
from moe_safety.scores import score_tables

__all__ = [
    "AGREEMENT",
    "OVERLAP",
    "SERVING",
    "Experts",
    "Pair",
    "Scored",
    "Selection",
    "draw_like",
    "jaccard",
    "read_selection",
    "select",
]


def _identify(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.identify.identify import identify

    return identify(config, **options)


STAGES.add(
    Stage(
        "identify",
        "risk differences, statistics, selection, masks",
        _identify,
        writes=(RISK, SELECTION),
        reads=lambda: (PROMPTS, BATCHES, ROUTING, *(table for table in score_tables() if table != RISK)),
        lines=summary_lines,
        section="identify",
        example="--set identify.method=causal --set identify.top_k=20",
    )
)
