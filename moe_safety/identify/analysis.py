"""What the sums say: the aggregated table with its statistics, scores of batches and categories, and the selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from moe_safety.config import IdentifyConfig
from moe_safety.identify.batch_rows import BatchRows
from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.inputs import Inputs
from moe_safety.identify.reduce import Reduction
from moe_safety.identify.select import Rule, Scored, select
from moe_safety.identify.statistics import (
    RISK_COLUMNS,
    frame,
    pooled_columns,
    q_values,
    risk_columns,
    split_half_correlation,
    standard_error,
)
from moe_safety.intervals import interval
from moe_safety.pipeline import RISK
from moe_safety.rundir import RunDir
from moe_safety.scores import BENIGN, CONTROL, RISK_DIFF, SAFE, UNSAFE, Moments, RoutingScore, Score, Sums, difference

BATCH_RISK = "batch_risk_diff.parquet"
CATEGORY_RISK = "category_risk_diff.parquet"
_ROWS_AT_ONCE = 1 << 18
PANELS = 16
"""At most so many small maps are drawn, and as many batches kept for them."""


@dataclass(frozen=True)
class Groups:
    """The batches, or the categories: from their sums to the columns of their table."""

    told: list[RoutingScore]
    """The scores of counts whose prompts are there."""
    score: RoutingScore
    """What they are ranked by."""
    counts: Sums
    summed: Sums
    """What that score is computed from."""

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, which: slice) -> Groups:
        return Groups(self.told, self.score, self.counts[which], self.summed[which])

    def copy(self) -> Groups:
        """One that holds none of the others."""
        return Groups(self.told, self.score, Sums(self.counts.values.copy()), Sums(self.summed.values.copy()))

    def columns(self) -> dict[str, np.ndarray]:
        """The columns of the groups' risk table, [groups, experts] each."""
        columns = risk_columns(self.counts)
        for score in self.told:
            if score.own_column not in columns:
                columns[score.own_column] = score.formula(self.counts)
        return columns | {self.score.own_column: self.scores()}

    def scores(self) -> np.ndarray:
        """What each group ranks its experts by: its own part of what the aggregated table is ranked by."""
        return self.score.formula(self.summed)


@dataclass(frozen=True)
class Risk:
    """What the routing counts say."""

    table: pd.DataFrame
    """One row per expert: `risk_diff.parquet`."""
    score: RoutingScore
    """What it is ranked by."""
    pooled: Sums
    """The counts of all batches together."""
    first_batches: Groups
    """The first `PANELS`."""
    undefined_batches: int
    own: list[np.ndarray]
    """The columns that each batch chooses."""
    categories: Groups
    per_category: dict[str, list[Pair]]
    split_half: float | None
    adjusted: bool
    """Whether there are harmless prompts to adjust by."""

    def scores(self) -> np.ndarray:
        """An entry per expert."""
        return self.score.of_table(self.table)


@dataclass(frozen=True)
class Analysis:
    """All that `identify` found out."""

    experts: Experts
    batch_rows: BatchRows
    selected: list[Pair]
    per_batch: dict[int, list[Pair]]
    score: Score | None
    """What is ranked by."""
    scored: Scored | None
    """What another method than the routing's ranks by."""
    risk: Risk | None
    """Nothing where no routing was captured."""

    @property
    def per_category(self) -> dict[str, list[Pair]]:
        """The experts selected for each category; none without routing."""
        return self.risk.per_category if self.risk else {}


def analyse(
    settings: IdentifyConfig,
    seed: int,
    inputs: Inputs,
    sums: Iterable[tuple[Reduction, Reduction]] | None = None,
    write: Callable[[Groups], None] = lambda groups: None,
) -> Analysis:
    """Everything that follows from the sums of each stretch of batches: of the counts, and of what is ranked by.
    `write` takes the batches as they come by."""
    experts, batch_rows, scored = inputs.experts, inputs.batch_rows, inputs.scored
    risk = _risk(settings, inputs, sums, write) if sums is not None else None
    routed = _of_routing(settings, batch_rows, risk) if risk and settings.needs_routing else None
    selected, per_batch = select(settings, experts, batch_rows.batch_ids, scored or routed, seed)
    if risk:
        risk.table["selected_share"] = experts.holders(per_batch.values()) / len(per_batch)
    return Analysis(experts, batch_rows, selected, per_batch, inputs.score, scored, risk)


def _of_routing(settings: IdentifyConfig, batch_rows: BatchRows, risk: Risk) -> Scored:
    if settings.mask_of == "global":
        return Scored(risk.scores())
    if settings.mask_of == "category":
        return Scored.of_groups(settings, risk.scores(), risk.categories.scores(), batch_rows.category_of_batches())
    return Scored(risk.scores(), risk.own)


class _Totals:
    """What adds up over the stretches."""

    def __init__(self, averaged: Iterable[RoutingScore]) -> None:
        self.averages = {score.name: (score, Moments()) for score in averaged}
        self._sums: list[Sums] = []

    def add(self, some: Reduction) -> None:
        """Takes a stretch in."""
        for score, moments in self.averages.values():
            moments.add(score.formula(some.batches))
        new = [some.batches.pooled(), some.categories, some.resamples]
        before = self._sums or [Sums(np.zeros_like(more.values)) for more in new]
        self._sums = [Sums(one.values + more.values) for one, more in zip(before, new, strict=True)]

    @property
    def pooled(self) -> Sums:
        """All batches as one."""
        return self._sums[0]

    @property
    def categories(self) -> Sums:
        """Harmless prompts are of no category, so each category is adjusted by all of them."""
        values = self._sums[1].values.copy()
        values[:, BENIGN:] = self.pooled.values[:, BENIGN:]
        return Sums(values)

    @property
    def resamples(self) -> Sums:
        """The resamplings."""
        return self._sums[2]

    def of(self, score: RoutingScore) -> np.ndarray:
        """The aggregated score, [1, experts]."""
        return self.averages[score.name][1].mean if score.averaged else score.formula(self.pooled)


def _risk(
    settings: IdentifyConfig,
    inputs: Inputs,
    sums: Iterable[tuple[Reduction, Reduction]],
    write: Callable[[Groups], None],
) -> Risk:
    batch_rows, experts, score = inputs.batch_rows, inputs.experts, inputs.routing_scores[-1]
    told = [one for one in inputs.routing_scores if one.sums == "counts" and all(map(batch_rows.has, one.labels))]
    counts, summed = (_Totals(one for one in (*inputs.routing_scores, RISK_DIFF) if one.averaged) for _ in range(2))
    by_batch, lowest = Moments(), settings.lowest if settings.needs_routing else settings.threshold
    rule = Rule(lowest, settings.top_k, settings.top_p)
    own: list[np.ndarray] = []
    first: Groups | None = None
    undefined = 0
    for one, other in sums:
        counts.add(one)
        summed.add(other)
        by_batch.add(difference(one.batches))
        batches = Groups(told, score, one.batches, other.batches)
        first = first or batches[:PANELS].copy()
        scores = batches.scores()
        undefined += int(np.isnan(scores).any(axis=1).sum())
        own += [columns.astype(np.int32) for columns in rule.choose(scores)]
        write(batches)
    assert first is not None
    categories = Groups(told, score, counts.categories, summed.categories)
    chosen = rule.choose(categories.scores())
    return Risk(
        table=frame(experts, _aggregated(settings.bootstrap_rounds, inputs, counts, summed, by_batch)),
        score=score,
        pooled=counts.pooled,
        first_batches=first,
        undefined_batches=undefined,
        own=own,
        categories=categories,
        per_category={name: experts.pairs(best) for name, best in zip(batch_rows.categories, chosen, strict=True)},
        split_half=split_half_correlation(counts.pooled, counts.resamples[settings.bootstrap_rounds :]),
        adjusted=batch_rows.has(BENIGN) and batch_rows.has(CONTROL),
    )


def _aggregated(
    rounds: int, inputs: Inputs, counts: _Totals, summed: _Totals, by_batch: Moments
) -> dict[str, np.ndarray]:
    """The columns of the aggregated table; `selected_share` has its place, and waits for the selection."""
    batch_rows, (*others, score) = inputs.batch_rows, inputs.routing_scores
    columns = pooled_columns(counts.pooled, by_batch) | _columns_of(RISK_DIFF, counts, rounds, batch_rows)
    by_round, goals = difference(counts.resamples[:rounds]), batch_rows.fewest_goals(SAFE, UNSAFE)
    columns["q_value"] = q_values(counts.pooled, by_round, goals)
    columns["selected_share"] = np.full(len(columns["q_value"]), np.nan)
    for other in others:
        columns |= _columns_of(other, counts, rounds, batch_rows)
    return columns | _columns_of(score, summed, rounds, batch_rows)


def _columns_of(score: RoutingScore, sums: _Totals, rounds: int, batch_rows: BatchRows) -> dict[str, np.ndarray]:
    """The score and its interval."""
    found = sums.of(score)
    if score.interval is None:
        return {score.column: found}
    goals = batch_rows.fewest_goals(*score.labels)
    ends = interval(found, standard_error(score.formula(sums.resamples[:rounds]), goals), goals)
    return {score.column: found} | dict(zip(score.interval, ends, strict=True))


def write_risk(run: RunDir, experts: Experts, batch_rows: BatchRows, risk: Risk) -> list[str]:
    """Writes the risk tables but for that of the batches, and returns the names of all. An undefined rate or difference
    is null."""
    run.write_table(RISK, pa.Table.from_pandas(risk.table, preserve_index=False).replace_schema_metadata(None))
    with writing_groups(run, CATEGORY_RISK, experts, "category", pa.array(batch_rows.categories, pa.string())) as write:
        write(risk.categories)
    return [RISK, BATCH_RISK, CATEGORY_RISK]


@contextmanager
def writing_batches(run: RunDir, inputs: Inputs) -> Iterator[Callable[[Groups], None]]:
    """Takes the batches of each stretch, in order, and writes their table."""
    keys = pa.array(inputs.batch_rows.batch_ids, pa.int32())
    with writing_groups(run, BATCH_RISK, inputs.experts, "batch_idx", keys) as write:
        yield write


@contextmanager
def writing_groups(
    run: RunDir, name: str, experts: Experts, key: str, keys: pa.Array
) -> Iterator[Callable[[Groups], None]]:
    """A row for each group and expert, a few groups at a time: tens of millions of rows are nothing unusual."""
    at_once, done = max(1, _ROWS_AT_ONCE // len(experts)), 0
    with run.writing(name) as path, ExitStack() as stack:
        writer: pq.ParquetWriter | None = None

        def write(groups: Groups) -> None:
            nonlocal writer, done
            for start in range(0, max(1, len(groups)), at_once):
                some = groups[start : start + at_once]
                table = _group_table(experts, key, keys[done : done + len(some)], some)
                writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema))
                writer.write_table(table)
                done += len(some)

        yield write


def _group_table(experts: Experts, key: str, keys: pa.Array, groups: Groups) -> pa.Table:
    n, width = len(keys), len(experts)
    named = {
        "layer": pa.array(np.tile(experts.layer, n)),
        "expert": pa.array(np.tile(experts.expert, n)),
        "Layer_Expert": pa.array(experts.names).take(pa.array(np.tile(np.arange(width), n))),
    }
    values = groups.columns()
    columns = named | {name: pa.array(value.reshape(-1), from_pandas=True) for name, value in values.items()}
    order: Sequence[str] = [*RISK_COLUMNS, *(name for name in values if name not in RISK_COLUMNS)]
    repeated = keys.take(pa.array(np.repeat(np.arange(n), width)))
    return pa.table({key: repeated} | {name: columns[name] for name in order})
