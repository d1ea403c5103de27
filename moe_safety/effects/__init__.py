"""Effects: what holding back each expert does to refusal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from moe_safety.config import Config
from moe_safety.pipeline import BATCHES, EXPERT_EFFECTS, PROMPTS, STAGES, Stage


def _effects(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.effects.effects import effects

    return effects(config, **options)


def _lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    summary = manifest["summary"]
    counts = ", ".join(f"{count} {label}" for label, count in summary["prompts"].items())
    yield f"effects: {summary['experts']} experts held back, one at a time, on {counts} prompts"
    if summary["against"] == "none":
        yield "  there are no control prompts: effects are those on unsafe prompts alone"
    for notes, items in Counter(map(str, summary["notes"].values())).items():
        yield f"  {items} work items: {notes}"


STAGES.add(
    Stage(
        "effects",
        "what holding back each expert does to refusal (Ray Data)",
        _effects,
        writes=(EXPERT_EFFECTS,),
        reads=lambda: (PROMPTS, BATCHES),
        lines=_lines,
        section="effects",
        needs_model=True,
    )
)
