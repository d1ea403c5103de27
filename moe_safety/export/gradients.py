"""The gradients of every round, as the earlier scripts kept them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from moe_safety.identify import Pair, Selection, read_selection
from moe_safety.identify.statistics import identify_unsafe_experts
from moe_safety.pipeline import EXPERT_GRADIENTS, SELECTION
from moe_safety.rundir import RunDir, is_finished


def gradients_by_round(run: RunDir, top_k: int, arm: str | None) -> dict[int, dict[str, Any]]:
    """What `gradients` found before any training, as the first round, and what the arm found in its later ones."""
    found = {1: _round(run, EXPERT_GRADIENTS, top_k, None)}
    for number, folder, selection in _rounds(run, arm) if arm else ():
        if number > 1:
            found[number] = _round(run, f"{folder}/{EXPERT_GRADIENTS}", top_k, selection.experts)
    return found


def arm_by_gradient(run: RunDir) -> str | None:
    """The trained arm whose rounds identified by gradient; of several that with most rounds, which is said."""
    trained = [name.removeprefix("manifests/train.").removesuffix(".json") for name in run.names("manifests", ".json")]
    rounds = {arm: len(list(_rounds(run, arm))) for arm in trained if is_finished(run, f"train/{arm}")}
    rounds = {arm: count for arm, count in rounds.items() if count > 1}
    if not rounds:
        return None
    chosen, *others = sorted(rounds, key=lambda arm: (-rounds[arm], arm))
    aside = f", and not of {', '.join(others)}" if others else ""
    print(f"export: the later rounds of expert_gradients.pkl are those of {chosen}{aside}")
    return chosen


def _rounds(run: RunDir, arm: str) -> Iterator[tuple[int, str, Selection]]:
    """The arm's rounds, as far as they identified by gradient."""
    number = 1
    while run.exists(f"{(folder := f'train/{arm}/round_{number}')}/{SELECTION}"):
        selection = read_selection(run, f"{folder}/{SELECTION}")
        if selection.method == "gradient":
            yield number, folder, selection
        number += 1


def _round(run: RunDir, name: str, top_k: int, chosen: list[Pair] | None) -> dict[str, Any]:
    """The experts that were chosen, the best unless it is known, and the gradient of each."""
    table: pd.DataFrame = run.read_table(name).to_pandas()
    ranked = identify_unsafe_experts(table, None, len(table), score="gradient")
    gradient = table.set_index(["layer", "expert"])["gradient"]
    return {
        "experts": ranked[:top_k] if chosen is None else list(chosen),
        "gradients": {expert: float(gradient[expert]) for expert in ranked},
    }
