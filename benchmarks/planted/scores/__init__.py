"""Every score that experts are ranked by: higher means guiltier. Columns are the layout's experts, in order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.planted.plant import Planted
from benchmarks.planted.probes import Probes
from benchmarks.planted.scores import combined, effects, gradients, routing
from benchmarks.planted.scores.offered import described

FAMILIES = {
    "routing": described("capture", routing.WHAT),
    "gradient": described("gradients", gradients.WHAT),
    "effect": described("effects", effects.WHAT),
    "combined": combined.WHAT,
}
"""The scores of each family, and what each is."""

Clock = Callable[[str, Callable[[], dict[str, np.ndarray]]], dict[str, np.ndarray]]
"""Runs a step of this name, and remembers what it took."""


def all_scores(model: Planted, probes: Probes, seed: int, clock: Clock) -> dict[str, np.ndarray]:
    scores = clock("routing", lambda: routing.routing_scores(model, probes))
    scores |= clock("gradients", lambda: gradients.gradient_scores(model, probes))
    scores |= clock("effects", lambda: effects.effect_scores(model, probes))
    return scores | combined.combined_scores(scores, seed)
