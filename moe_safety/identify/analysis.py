"""What the sums say: the aggregated table with its statistics, scores of batches and categories, and the selection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from moe_safety.config import IdentifyConfig
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.places import BENIGN, CONTROL, Places
from moe_safety.identify.reduce import Reduction
from moe_safety.identify.risk import control_adjusted, difference, frame, pooled_columns, risk_columns
from moe_safety.identify.rules import Rule
from moe_safety.identify.scored import Scored
from moe_safety.identify.select import select, select_by_scores
from moe_safety.identify.statistics import interval, q_values, split_half_correlation
from moe_safety.identify.sums import Sums


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
class Analysis:
    """All that `identify` found out."""

    experts: Experts
    places: Places
    table: pd.DataFrame
    """One row per expert: `risk_diff.parquet`."""
    batches: Groups
    categories: Groups
    selected: list[Pair]
    per_batch: dict[int, list[Pair]]
    per_category: dict[str, list[Pair]]
    split_half: float | None


def score_column(score: str) -> str:
    """The column of the aggregated table that this score is."""
    return "risk_diff_weight" if score == "weight" else score


def analyse(
    settings: IdentifyConfig,
    seed: int,
    experts: Experts,
    places: Places,
    counts: Reduction,
    weights: Reduction | None = None,
    scored: Scored | None = None,
) -> Analysis:
    """Everything that follows from the sums. `weights` are needed where `score` is `weight`; `scored` is what another
    method than the routing's ranks by."""
    adjusted = places.has(BENIGN) and places.has(CONTROL)
    batches = Groups(counts.batches, weights.batches if weights else None, adjusted)
    categories = Groups(
        _with_harmless(counts.categories, counts.batches),
        _with_harmless(weights.categories, weights.batches) if weights else None,
        adjusted,
    )
    columns = _aggregated(settings.bootstrap_rounds, places, counts, weights)
    scores, batch_scores = (
        columns[score_column(settings.routing_score)].reshape(-1),
        batches.scores(settings.routing_score),
    )
    if scored:
        selected, per_batch = select_by_scores(settings, experts, places.batch_ids, scored)
    else:
        selected, per_batch = select(settings, experts, places.batch_ids, scores, batch_scores, seed)
    columns["selected_share"] = experts.members(list(per_batch.values())).mean(axis=0)
    chosen = Rule(settings.threshold, settings.top_k, settings.top_p).choose(categories.scores(settings.routing_score))
    halves = counts.resamples[settings.bootstrap_rounds :]
    return Analysis(
        experts=experts,
        places=places,
        table=frame(experts, columns),
        batches=batches,
        categories=categories,
        selected=selected,
        per_batch=per_batch,
        per_category={name: experts.pairs(best) for name, best in zip(places.categories, chosen, strict=True)},
        split_half=split_half_correlation(counts.batches.pooled(), halves),
    )


def _aggregated(rounds: int, places: Places, counts: Reduction, weights: Reduction | None) -> dict[str, np.ndarray]:
    """The columns of the aggregated table; `selected_share` has its place, and waits for the selection."""
    pooled, resampled = counts.batches.pooled(), counts.resamples[:rounds]
    columns, n_goals = pooled_columns(counts.batches), int(places.attacked.sum())
    by_round = difference(resampled)
    columns["low"], columns["high"] = interval(by_round, n_goals)
    columns["q_value"] = q_values(columns["risk_diff"].reshape(-1), by_round, n_goals)
    columns["selected_share"] = np.zeros(0)
    columns["risk_diff_control"] = control_adjusted(pooled)
    columns["low_control"], columns["high_control"] = interval(control_adjusted(resampled), n_goals)
    if weights:
        columns["risk_diff_weight"] = difference(weights.batches.pooled())
        columns["low_weight"], columns["high_weight"] = interval(difference(weights.resamples[:rounds]), n_goals)
    return columns


def _with_harmless(categories: Sums, batches: Sums) -> Sums:
    """Harmless prompts are of no category, so each category is adjusted by all of them."""
    values = categories.values.copy()
    values[:, BENIGN:] = batches.pooled().values[:, BENIGN:]
    return Sums(values)
