"""What the sums say: the aggregated table with its statistics, scores of batches and categories, and the selection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from moe_safety.config import IdentifyConfig
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.places import BENIGN, CONTROL, SAFE, UNSAFE, Places
from moe_safety.identify.reduce import Reduction
from moe_safety.identify.risk import control_adjusted, difference, frame, pooled_columns, risk_columns
from moe_safety.identify.rules import Rule
from moe_safety.identify.scored import Scored
from moe_safety.identify.select import select
from moe_safety.identify.statistics import q_values, split_half_correlation, standard_error
from moe_safety.identify.sums import Sums
from moe_safety.intervals import interval


@dataclass(frozen=True)
class Groups:
    """The batches, or the categories: from their sums to the columns of their table."""

    counts: Sums
    weights: Sums | None
    adjusted: bool
    """Whether there are harmless prompts to adjust by."""

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, which: slice) -> Groups:
        return Groups(self.counts[which], self.weights[which] if self.weights else None, self.adjusted)

    def columns(self) -> dict[str, np.ndarray]:
        columns = risk_columns(self.counts)
        if self.adjusted:
            columns["risk_diff_control"] = control_adjusted(self.counts)
        if self.weights:
            columns["risk_diff_weight"] = difference(self.weights)
        return columns

    def scores(self, score: str) -> np.ndarray:
        """What each group ranks its experts by: its own part of what the aggregated table is ranked by."""
        if score == "weight" and self.weights:
            return difference(self.weights)
        return control_adjusted(self.counts) if score == "risk_diff_control" else difference(self.counts)


@dataclass(frozen=True)
class Risk:
    """What the routing counts say."""

    table: pd.DataFrame
    """One row per expert: `risk_diff.parquet`."""
    batches: Groups
    categories: Groups
    per_category: dict[str, list[Pair]]
    split_half: float | None

    def scores(self, score: str) -> np.ndarray:
        """By one of the routing's scores, an entry per expert."""
        return self.table["risk_diff_weight" if score == "weight" else score].to_numpy()

    def scored(self, score: str) -> Scored:
        """The same, with each batch's own."""
        return Scored(self.scores(score), self.batches.scores(score))


@dataclass(frozen=True)
class Analysis:
    """All that `identify` found out."""

    experts: Experts
    places: Places
    selected: list[Pair]
    per_batch: dict[int, list[Pair]]
    scored: Scored | None
    """What another method than the routing's ranks by."""
    risk: Risk | None
    """Nothing where no routing was captured."""

    @property
    def per_category(self) -> dict[str, list[Pair]]:
        return self.risk.per_category if self.risk else {}


def analyse(
    settings: IdentifyConfig,
    seed: int,
    experts: Experts,
    places: Places,
    counts: Reduction | None = None,
    weights: Reduction | None = None,
    scored: Scored | None = None,
) -> Analysis:
    """Everything that follows from the sums. `weights` are needed where `score` is `weight`."""
    risk = _risk(settings, experts, places, counts, weights) if counts else None
    routed = risk.scored(settings.routing_score) if risk and settings.needs_routing else None
    selected, per_batch = select(settings, experts, places.batch_ids, scored or routed, seed)
    if risk:
        risk.table["selected_share"] = experts.members(list(per_batch.values())).mean(axis=0)
    return Analysis(experts, places, selected, per_batch, scored, risk)


def _risk(
    settings: IdentifyConfig, experts: Experts, places: Places, counts: Reduction, weights: Reduction | None
) -> Risk:
    adjusted = places.has(BENIGN) and places.has(CONTROL)
    categories = Groups(
        _with_harmless(counts.categories, counts.batches),
        _with_harmless(weights.categories, weights.batches) if weights else None,
        adjusted,
    )
    chosen = Rule(settings.threshold, settings.top_k, settings.top_p).choose(categories.scores(settings.routing_score))
    halves = counts.resamples[settings.bootstrap_rounds :]
    return Risk(
        table=frame(experts, _aggregated(settings.bootstrap_rounds, places, counts, weights)),
        batches=Groups(counts.batches, weights.batches if weights else None, adjusted),
        categories=categories,
        per_category={name: experts.pairs(best) for name, best in zip(places.categories, chosen, strict=True)},
        split_half=split_half_correlation(counts.batches.pooled(), halves),
    )


def _aggregated(rounds: int, places: Places, counts: Reduction, weights: Reduction | None) -> dict[str, np.ndarray]:
    """The columns of the aggregated table; `selected_share` has its place, and waits for the selection."""
    pooled, resampled = counts.batches.pooled(), counts.resamples[:rounds]
    columns, goals = pooled_columns(counts.batches), places.fewest_goals(SAFE, UNSAFE)
    by_round = difference(resampled)
    columns["low"], columns["high"] = _interval(columns["risk_diff"], by_round, goals)
    columns["q_value"] = q_values(pooled, by_round, goals)
    columns["selected_share"] = np.full(len(columns["q_value"]), np.nan)
    columns["risk_diff_control"] = control_adjusted(pooled)
    columns["low_control"], columns["high_control"] = _interval(
        columns["risk_diff_control"], control_adjusted(resampled), places.fewest_goals(SAFE, UNSAFE, BENIGN, CONTROL)
    )
    if weights:
        columns["risk_diff_weight"] = difference(weights.batches.pooled())
        columns["low_weight"], columns["high_weight"] = _interval(
            columns["risk_diff_weight"], difference(weights.resamples[:rounds]), goals
        )
    return columns


def _interval(estimate: np.ndarray, by_round: np.ndarray, goals: int) -> tuple[np.ndarray, np.ndarray]:
    return interval(estimate, standard_error(by_round, goals), goals)


def _with_harmless(categories: Sums, batches: Sums) -> Sums:
    """Harmless prompts are of no category, so each category is adjusted by all of them."""
    values = categories.values.copy()
    values[:, BENIGN:] = batches.pooled().values[:, BENIGN:]
    return Sums(values)
