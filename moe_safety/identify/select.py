"""Who is selected: by the routing's own score, by chance as a control, or by another method's table of scores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from moe_safety.config import IdentifyConfig
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.risk import identify_unsafe_experts
from moe_safety.identify.rules import Rule

Choice = tuple[list[Pair], dict[int, list[Pair]]]
"""The global selection, and that of each batch."""


def rule_of(settings: IdentifyConfig) -> Rule:
    return Rule(settings.threshold, settings.top_k, settings.top_p)


def select(
    settings: IdentifyConfig,
    experts: Experts,
    batch_ids: Iterable[int],
    scores: np.ndarray,
    batch_scores: np.ndarray,
    seed: int,
) -> Choice:
    """The selection of the configured method. `routing` gives each batch the best of its own scores; for a control
    drawn by chance each batch's selection is the global one."""
    rule = rule_of(settings)
    (routed,) = rule.choose(scores[None])
    if settings.method == "routing":
        per_batch = zip(batch_ids, rule.choose(batch_scores), strict=True)
        return experts.pairs(routed), {int(batch): experts.pairs(columns) for batch, columns in per_batch}
    generator = np.random.default_rng([seed, *settings.method.encode()])
    if settings.method == "random":
        # A share of the scores fixes no number of its own.
        size = settings.top_k if settings.top_p is None else len(routed)
        drawn = generator.choice(len(experts), size, replace=False)
    else:
        drawn = _layer_matched(experts, routed, generator)
    return _everywhere(experts.pairs(np.sort(drawn)), batch_ids)


def select_by_table(
    table: pd.DataFrame, batch_ids: Iterable[int], top_k: int, min_score: float | None = None
) -> Choice:
    """The best of another method's table (layer, expert, score), the same for each batch."""
    return _everywhere(identify_unsafe_experts(table, min_score, top_k, score="score"), batch_ids)


def _layer_matched(experts: Experts, routed: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As many experts of each layer as the routing selects there, drawn from all of the layer's, those included."""
    layers, sizes = np.unique(experts.layer[routed], return_counts=True)
    drawn = [
        generator.choice(np.flatnonzero(experts.layer == layer), size, replace=False)
        for layer, size in zip(layers, sizes, strict=True)
    ]
    return np.concatenate([np.zeros(0, np.int64), *drawn])


def _everywhere(chosen: list[Pair], batch_ids: Iterable[int]) -> Choice:
    return chosen, {int(batch): chosen for batch in batch_ids}
