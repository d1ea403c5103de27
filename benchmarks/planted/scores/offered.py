"""The scores that `identify` offers, by its own formulas; those of effects by its handlers and passes, here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.planted.plant import Planted
from benchmarks.planted.probes import Probes
from moe_safety.effects.conditional import conditional_passes, mean_losses
from moe_safety.effects.measurer import Foreseer, Harmless, Measurer, trials_of
from moe_safety.effects.table import by_prompt, merge
from moe_safety.effects.trials import TRIALS_SCHEMA
from moe_safety.models.experts.effects import MAX_TOKENS
from moe_safety.scores import SCORES, Score
from moe_safety.scores.causal import EFFECTS

_LABELS = {
    "risk_diff": "risk difference",
    "risk_diff_mean": "risk difference, batch mean",
    "risk_diff_control": "risk difference, control-adjusted",
    "weight": "routing weight",
    "gradient_per_token": "gradient per token",
    "gradient_l2": "gradient L2",
    "effect": "effect minus control",
    "effect_conditional": "effect minus control, conditional",
    "first_order": "first-order effect minus control",
}
"""What results call some of them, which stand beside variants of theirs."""


def label_of(score: Score) -> str:
    """What results call a score of `identify`."""
    return _LABELS.get(score.name, score.name)


def offered_by(stage: str) -> dict[str, Score]:
    """The scores of `identify` that are made from what this stage measures, by what results call them."""
    return {label_of(score): score for score in SCORES if score.reads.stage == stage}


def described(stage: str, what: Mapping[str, str]) -> dict[str, str]:
    """What each score is: those of `what`, and others of `identify` by their definitions."""
    return {**what, **{label: one.definition for label, one in offered_by(stage).items() if label not in what}}


Passes = list[pa.Table]
"""A row per prompt each: the effects, the first-order estimates, and the effects with others held back."""


def passes_of(model: Planted, probes: Probes, opening: int, prompts: int) -> Passes:
    """What the stage `effects` leaves where every expert is a candidate."""
    trials = _trials(probes, opening, prompts)
    places = list(range(model.layout.n_moe_layers * model.layout.max_experts))
    longest = max(trials_of(trials), key=lambda trial: trial.length)

    def measure(number: int, held: list[int]) -> pa.Table:
        others = [place for place in places if place not in held]
        rows = trials.append_column("experts", pa.array([others] * len(trials)))
        return merge(Measurer(model.model, MAX_TOKENS, longest=longest, held=held)(rows, {}), model.layout)

    def losses_of(number: int, sets: list[list[int]]) -> np.ndarray:
        harmless = trials.filter(pc.equal(trials["label"], "control"))
        return mean_losses([Harmless(model.model, MAX_TOKENS, sets=sets)(harmless, {})])

    alone, *held = conditional_passes(measure(0, []), places, losses_of, measure)
    return [alone, Foreseer(model.model, MAX_TOKENS)(trials, {}), *held]


def offered(score: Score, passes: Passes) -> np.ndarray:
    """A score of effects; all but one read the first two passes alone."""
    assert score.reads.fold
    table = score.reads.fold(passes[:2] if score.reads is EFFECTS else passes)
    assert table
    return score.of_table(table.to_pandas())


def on_attacks(table: pa.Table) -> np.ndarray:
    """The mean over attacks alone."""
    return by_prompt(table.filter(pc.equal(table["label"], "unsafe"))).mean(axis=0)


def _trials(probes: Probes, opening: int, prompts: int) -> pa.Table:
    rows = [
        {"prompt_id": f"{label} {number}", "label": label, **vars(trial)}
        for label in ("unsafe", "control")
        for number, trial in enumerate(probes.opening(label, opening, prompts))
    ]
    return pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA)
