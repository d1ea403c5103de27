"""From scores to chosen experts: the best first, never the first found; or as many by chance, as a control."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from moe_safety.config import BY_CHANCE, IdentifyConfig
from moe_safety.errors import InputError
from moe_safety.identify.experts import Experts, Pair

Choice = tuple[list[Pair], dict[int, list[Pair]]]
"""The global selection, and that of each batch."""
_AT_ONCE = 1024
"""Groups that are sorted at once."""


@dataclass(frozen=True)
class Rule:
    """Strictly above the threshold, where there is one; then the best `top_k`, or with `top_p` the fewest best that
    hold this share of all positive scores. Ties go to the first column, which is the lower (layer, expert)."""

    threshold: float | None
    top_k: int
    top_p: float | None = None

    @classmethod
    def of(cls, settings: IdentifyConfig) -> Rule:
        """The configured one."""
        return cls(settings.lowest, settings.top_k, settings.top_p)

    def choose(self, scores: np.ndarray) -> list[np.ndarray]:
        """The chosen columns of each row of `scores` [groups, experts], best first. NaN is never chosen."""
        chosen: list[np.ndarray] = []
        for start in range(0, len(scores), _AT_ONCE):
            some = scores[start : start + _AT_ONCE]
            order = np.argsort(-some, axis=1, kind="stable")
            sizes = self._sizes(np.take_along_axis(some, order, axis=1))
            chosen += [columns[:size] for columns, size in zip(order, sizes, strict=True)]
        return chosen

    def _sizes(self, ranked: np.ndarray) -> np.ndarray:
        lowest = -np.inf if self.threshold is None else self.threshold
        passing = (ranked > lowest).sum(axis=1)
        return np.minimum(passing, self.top_k if self.top_p is None else self._share_sizes(ranked))

    def _share_sizes(self, ranked: np.ndarray) -> np.ndarray:
        held = np.cumsum(np.where(ranked > 0, ranked, 0), axis=1)
        wanted = self.top_p * held[:, -1:]
        # Without a positive score there is no share to hold, and nothing is chosen.
        return np.where(held[:, -1] > 0, (held < wanted).sum(axis=1) + 1, 0)


@dataclass(frozen=True)
class Scored:
    """What experts are ranked by, in the order of columns."""

    scores: np.ndarray
    own: Sequence[np.ndarray] | None = None
    """The columns that each batch chooses, where it has scores of its own."""

    @classmethod
    def of_groups(cls, settings: IdentifyConfig, scores: np.ndarray, groups: np.ndarray, of: np.ndarray) -> Scored:
        """With the scores of some groups, and which of them each batch is of."""
        chosen = Rule.of(settings).choose(groups)
        return cls(scores, [chosen[group] for group in of])


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
    if BY_CHANCE[method].in_each_layer:
        drawn = _layer_matched(experts, experts.find(like), generator)
    else:
        drawn = generator.choice(len(experts), len(like), replace=False)
    return _everywhere(experts.pairs(np.sort(drawn)), batch_ids)


def permuted(per_batch: Mapping[int, list[Pair]], seed: int) -> dict[int, list[Pair]]:
    """Each batch with another one's mask, drawn by seed. A mask that several have goes to others than these as long as
    there are as many; only of one that more than half of them have, some keep it."""
    drawn = _generator("permuted", seed).permutation(list(per_batch))
    alike: dict[frozenset[Pair], list[int]] = {}
    for batch in drawn.tolist():
        alike.setdefault(frozenset(per_batch[batch]), []).append(batch)
    if len(alike) < 2:
        raise InputError("every batch has the same mask, so none has another to train", key="identify.masks")
    line, far = list(chain(*alike.values())), max(map(len, alike.values()))
    given = {batch: per_batch[line[(place + far) % len(line)]] for place, batch in enumerate(line)}
    return {batch: given[batch] for batch in per_batch}


def _best(settings: IdentifyConfig, experts: Experts, batch_ids: Iterable[int], scored: Scored) -> Choice:
    """The best by score, the same for each batch unless batches have scores of their own."""
    chosen = experts.pairs(Rule.of(settings).choose(scored.scores[None])[0])
    if scored.own is None:
        return _everywhere(chosen, batch_ids)
    per_batch = zip(batch_ids, scored.own, strict=True)
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
