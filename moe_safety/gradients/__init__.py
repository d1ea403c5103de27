"""Gradients: which experts would have to change for unsafe prompts to get their safe answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline import BATCHES, EXPERT_GRADIENTS, STAGES, Stage


def _gradients(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.gradients.gradients import gradients

    return gradients(config, **options)


def _lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    summary = manifest["summary"]
    yield f"gradients: {summary['batches']} batches"
    for batch_idx, notes in summary["notes"].items():
        yield f"  batch {batch_idx}: {notes}"


STAGES.add(
    Stage(
        "gradients",
        "per-expert gradient magnitudes of every batch (Ray Data)",
        _gradients,
        writes=(EXPERT_GRADIENTS,),
        reads=lambda: (BATCHES,),
        lines=_lines,
        section="gradients",
        needs_model=True,
    )
)
