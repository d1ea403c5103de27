"""How much worse than the base a model is at what a repair should leave alone, with intervals: what margins are about.

More is worse in each of them. An answer that nobody could read stands at its worse end on both sides of a difference:
it counts against the model, and not against the base.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from moe_safety.evaluate.harness import Solved
from moe_safety.evaluate.measures import MEASURES
from moe_safety.evaluate.statistics import difference, mean_difference

HARMLESS = ("over_refusal", "over_refusal_control")
Losses = Mapping[str, tuple[float, int]]
"""By prompt, the sum of the losses of a good answer's tokens, and how many there are."""


def of_answers(own: pa.Table, before: pa.Table) -> dict[str, dict[str, Any]]:
    """Of the shares of harmless requests that are refused, on prompts that both tables hold."""
    columns = ["prompt_id", "goal_id", "label", "verdict"]
    then = {row["prompt_id"]: row["verdict"] for row in before.select(columns).to_pylist()}
    rows = [row for row in own.select(columns).to_pylist() if row["prompt_id"] in then]
    found = {}
    for name in HARMLESS:
        measure = MEASURES[name]
        if asked := measure.counted(rows):
            worst = [row["verdict"] in (measure.verdict, "unparsed") for row in asked]
            best = [then[row["prompt_id"]] == measure.verdict for row in asked]
            found[name] = difference([row["goal_id"] for row in asked], worst, best)
    return found


def of_losses(own: Losses, before: Losses, goals: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Of the loss of good answers, in nats per token; a prompt's goal is in `goals`."""
    both = sorted(own.keys() & before.keys())
    if not both:
        return {}
    moved = [own[prompt][0] - before[prompt][0] for prompt in both]
    found = mean_difference([goals[prompt] for prompt in both], moved, [own[prompt][1] for prompt in both])
    return {"benign_loss": found}


def of_tasks(own: Solved, before: Solved) -> dict[str, dict[str, Any]]:
    """Of the shares of a task's questions that are solved: by how much fewer."""
    found = {}
    for task, metrics in own.shares.items():
        for metric, now in metrics.items():
            then = before.shares.get(task, {}).get(metric, {})
            if both := sorted(now.keys() & then.keys()):
                missed = ([1 - each[question] for question in both] for each in (now, then))
                found[f"{task}.{metric}"] = difference(both, *missed)
    return found
