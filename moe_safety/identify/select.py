"""Who is selected: by the routing's own score, by chance as a control, or by another method's table of scores."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from moe_safety.config import IdentifyConfig
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.rules import Rule
from moe_safety.identify.scored import Scored

Choice = tuple[list[Pair], dict[int, list[Pair]]]
"""The global selection, and that of each batch."""


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
    rule = Rule(settings.threshold, settings.top_k, settings.top_p)
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


def select_by_scores(
    settings: IdentifyConfig,
    experts: Experts,
    batch_ids: Iterable[int],
    scored: Scored,
) -> Choice:
    """The best by another method's scores, the same for each batch unless batches have scores of their own."""
    rule = Rule(settings.min_score, settings.top_k, settings.top_p)
    chosen = experts.pairs(rule.choose(scored.scores[None])[0])
    if scored.by_batch is None:
        return _everywhere(chosen, batch_ids)
    per_batch = zip(batch_ids, rule.choose(scored.by_batch), strict=True)
    return chosen, {int(batch): experts.pairs(columns) for batch, columns in per_batch}


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
