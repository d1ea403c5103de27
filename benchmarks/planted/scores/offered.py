"""The scores of effects that `identify` offers, by its own handlers, passes and formulas, in this process."""

from __future__ import annotations

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
from moe_safety.scores import SCORES

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


def offered(name: str, passes: Passes) -> np.ndarray:
    """A score of `identify`."""
    score = SCORES.get(name)
    values: np.ndarray = score.of_table(score.reads.fold(passes).to_pandas())
    return values


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
