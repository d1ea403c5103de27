"""Who is selected: the best by score, or by chance as a control."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from moe_safety.config import IdentifyConfig
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.rules import Rule
from moe_safety.identify.scored import Scored

Choice = tuple[list[Pair], dict[int, list[Pair]]]
"""The global selection, and that of each batch."""


def select(
    settings: IdentifyConfig, experts: Experts, batch_ids: Iterable[int], scored: Scored | None, seed: int
) -> Choice:
    """The selection of the configured method: the best by its scores, or as many by chance as it is matched to; without
    scores `top_k` by chance."""
    if scored is None:
        drawn = _generator(settings.method, seed).choice(len(experts), settings.top_k, replace=False)
        return _everywhere(experts.pairs(np.sort(drawn)), batch_ids)
    best = _best(settings, experts, batch_ids, scored)
    return draw_like(best[0], settings.method, experts, batch_ids, seed) if settings.by_chance else best


def draw_like(like: Sequence[Pair], method: str, experts: Experts, batch_ids: Iterable[int], seed: int) -> Choice:
    """A control of a selection, drawn from all experts, those included: as many as it has, for `random_layer_matched`
    in each layer. Each batch's selection is the global one."""
    generator = _generator(method, seed)
    if method == "random":
        drawn = generator.choice(len(experts), len(like), replace=False)
    else:
        drawn = _layer_matched(experts, experts.find(like), generator)
    return _everywhere(experts.pairs(np.sort(drawn)), batch_ids)


def _best(settings: IdentifyConfig, experts: Experts, batch_ids: Iterable[int], scored: Scored) -> Choice:
    """The best by score, the same for each batch unless batches have scores of their own."""
    rule = Rule(settings.lowest, settings.top_k, settings.top_p)
    chosen = experts.pairs(rule.choose(scored.scores[None])[0])
    if scored.by_batch is None:
        return _everywhere(chosen, batch_ids)
    per_batch = zip(batch_ids, rule.choose(scored.by_batch), strict=True)
    return chosen, {int(batch): experts.pairs(columns) for batch, columns in per_batch}


def _generator(method: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, *method.encode()])


def _layer_matched(experts: Experts, like: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    layers, sizes = np.unique(experts.layer[like], return_counts=True)
    drawn = [
        generator.choice(np.flatnonzero(experts.layer == layer), size, replace=False)
        for layer, size in zip(layers, sizes, strict=True)
    ]
    return np.concatenate([np.zeros(0, np.int64), *drawn])


def _everywhere(chosen: list[Pair], batch_ids: Iterable[int]) -> Choice:
    return chosen, {int(batch): chosen for batch in batch_ids}
