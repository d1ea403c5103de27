"""What was found of each expert: maps of scores, the selected ones, and how far methods agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from moe_safety.identify import AGREEMENT, SERVING, Experts, Pair, read_selection
from moe_safety.report.figures.heatmap import Grid
from moe_safety.rundir import RunDir
from moe_safety.scores import SCORES, RoutingScore, Score, default_scores

_RISK = ("risk_diff", "low", "high", "q_value", "risk_diff_control")
"""What is told of an expert from its risk differences."""


@dataclass(frozen=True)
class ScoreMap:
    """One score of every expert."""

    score: Score
    grid: Grid
    marked: list[tuple[int, int]]
    """Cells of the selected experts."""
    best: list[tuple[str, float]]
    """The highest few, by name, of the guilty sign alone."""
    against_control: bool
    """Whether what the same does on control prompts is taken off."""


@dataclass(frozen=True)
class Identification:
    """What `identify` found."""

    summary: dict[str, Any]
    """Its figures, as its manifest has them."""
    maps: list[ScoreMap]
    chosen: list[Pair]
    """The selection, best first."""
    selected: list[dict[str, Any]]
    """Each selected expert with what is known of it, best first."""
    agreement: list[dict[str, Any]]
    """Rows of `agreement.parquet`."""

    @property
    def known(self) -> list[str]:
        """The columns of the table of selected experts that have something to say."""
        columns = dict.fromkeys(column for row in self.selected for column in row if row[column] is not None)
        return [column for column in columns if column != "name"]

    @property
    def agreed_overall(self) -> list[dict[str, Any]]:
        """The agreement of methods over all layers together."""
        return [row for row in self.agreement if row["layer"] is None]

    @property
    def agreed_by_layer(self) -> Grid:
        """Rank correlation, with a row for each pair of methods and a column for each layer."""
        by_pair: dict[str, dict[int, float | None]] = {}
        for row in self.agreement:
            if row["layer"] is not None:
                by_pair.setdefault(f"{row['a']}, {row['b']}", {})[row["layer"]] = row["spearman"]
        layers = sorted(set().union(*by_pair.values()))
        values = np.array([[found.get(layer) for layer in layers] for found in by_pair.values()], dtype=float)
        return Grid(values, list(by_pair), layers, np.ones(values.shape, dtype=bool))


def read_identification(run: RunDir, summary: dict[str, Any]) -> Identification:
    """Reads the tables of scores that are there."""
    chosen = read_selection(run).experts
    tables = scored_tables(run, summary)
    return Identification(
        summary=summary,
        chosen=chosen,
        maps=[_score_map(scored, chosen) for scored in tables],
        selected=[_known_of(pair, tables, _serving(run)) for pair in chosen],
        agreement=run.read_table(AGREEMENT).to_pylist() if run.exists(AGREEMENT) else [],
    )


@dataclass(frozen=True)
class Scored:
    """What a score says of each row of its table."""

    score: Score
    table: pa.Table
    values: np.ndarray


def scored_tables(run: RunDir, summary: dict[str, Any]) -> list[Scored]:
    """Of each method that left a table, the score that it is ranked by here."""
    asked = [SCORES.get(summary[key]) for key in ("score", "routing_score") if summary.get(key)]
    ranked = {score.method: score for score in [*default_scores(), *asked]}
    tables = {score: run.read_table(score.reads.table) for score in ranked.values() if run.exists(score.reads.table)}
    return [Scored(score, table, score.of_table(table.to_pandas())) for score, table in tables.items()]


def experts_in(table: pa.Table) -> Experts:
    """The experts that a table has a row for, in its order."""
    layer, expert = (table[name].to_numpy() for name in ("layer", "expert"))
    layers, row = np.unique(layer, return_inverse=True)
    width = int(expert.max()) + 1
    return Experts(layer, expert, row * width + expert, (len(layers), width))


def grid_of(experts: Experts, values: np.ndarray) -> Grid:
    """Values of experts as a map, layer by expert."""
    return Grid(
        values=experts.matrix(values.astype(float), np.nan),
        rows=np.unique(experts.layer).tolist(),
        columns=range(experts.shape[1]),
        exists=experts.matrix(np.ones(len(experts), dtype=bool), False),
    )


def cells(experts: Experts, pairs: Iterable[Pair]) -> list[tuple[int, int]]:
    """The cells of these experts on the map."""
    rows, columns = np.divmod(experts.flat[experts.find(pairs)], experts.shape[1])
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _score_map(scored: Scored, chosen: list[Pair]) -> ScoreMap:
    table, values = scored.table, scored.values
    experts = experts_in(table)
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:3]
    best = [(experts.names[place], float(values[place])) for place in order if values[place] > 0]
    controlled = "against" in table.column_names and "control" in table["against"].to_pylist()
    return ScoreMap(
        scored.score, replace(grid_of(experts, values), above=True), cells(experts, chosen), best, controlled
    )


def _known_of(pair: Pair, tables: list[Scored], serving: dict[Pair, int]) -> dict[str, Any]:
    """A row of the table of selected experts; what was not measured, and a score that is not above 0, is None: who
    takes experts by another method or by chance learns of none that refusing hangs on."""
    layer, expert = pair
    known: dict[str, Any] = {"name": f"L{layer:02d}_E{expert:02d}"}
    for scored in tables:
        here = experts_in(scored.table).find([pair]).item()
        if isinstance(scored.score, RoutingScore):
            known |= _risk_of({column: scored.table[column][here].as_py() for column in _RISK})
        known.setdefault(scored.score.name, _if_guilty(float(scored.values[here])))
    return known | {"batches": serving.get(pair)}


def _risk_of(row: dict[str, Any]) -> dict[str, Any]:
    low, high, value = row["low"], row["high"], _if_guilty(row["risk_diff"])
    told = f"[{low:+.3f}, {high:+.3f}]" if value is not None and low is not None and low == low else None
    return {
        "risk_diff": value,
        "interval": told,
        "q_value": row["q_value"],
        "risk_diff_control": _if_guilty(row["risk_diff_control"]),
    }


def _if_guilty(value: float | None) -> float | None:
    return None if value is None or value <= 0 else value


def _serving(run: RunDir) -> dict[Pair, int]:
    """In how many batches each expert is selected."""
    if not run.exists(SERVING):
        return {}
    rows = run.read_table(SERVING, ["layer", "expert", "batches"]).to_pylist()
    return {(row["layer"], row["expert"]): row["batches"] for row in rows}
