"""Routing: which experts the tokens of every prompt are routed to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline import BATCHES, ROUTING, STAGES, Stage


def _capture(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.routing.capture import capture

    return capture(config, **options)


def _lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    summary = manifest["summary"]
    yield f"capture: {summary['prompts']} prompts, {summary['tokens']} counted tokens, {summary['items']} work items"
    if summary["uncounted"]:
        yield f"  {summary['uncounted']} prompts have no counted token"
    for item, notes in summary["notes"].items():
        yield f"  item {item}: {notes}"


STAGES.add(
    Stage(
        "capture",
        "count which experts every prompt is routed to (Ray Data)",
        _capture,
        writes=(ROUTING,),
        reads=lambda: (BATCHES,),
        lines=_lines,
        section="capture",
        needs_model=True,
    )
)
