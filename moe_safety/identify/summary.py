"""The figures of `identify` worth keeping: plain data for the manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moe_safety.config import IdentifyConfig
from moe_safety.identify.analysis import Analysis, Groups, Risk
from moe_safety.identify.experts import Experts
from moe_safety.identify.printing import SIGNIFICANT
from moe_safety.identify.select import Rule
from moe_safety.scores import LABELS

TOP, GROUP_TOP, BATCHES_SHOWN = 10, 5, 5
GUILTY = 0.0
"""Experts are listed above it alone: those below are what refusing may hang on."""

TableRow = dict[Any, Any]


def summarise(
    analysis: Analysis, settings: IdentifyConfig, uncounted: int, measured: pd.DataFrame | None
) -> dict[str, Any]:
    """An undefined figure is None; without routing its figures are left out, and `routed` says so. What is ranked by
    was `measured` in a table, unless by routing or by chance; of a draw, which may hold experts of either sign, no
    score is told."""
    sizes = [len(chosen) for chosen in analysis.per_batch.values()]
    figures = {
        "method": settings.method,
        "score": settings.ranked_by,
        "ranking": settings.ranking,
        "lowest": settings.lowest,
        "best": _best(analysis, None if settings.by_chance else measured),
        "experts": len(analysis.experts),
        "batches": len(sizes),
        "selected": len(analysis.selected),
        "per_batch": {
            "min": min(sizes),
            "max": max(sizes),
            "mean": float(np.mean(sizes)),
            "union": len(set().union(*analysis.per_batch.values())),
            "sizes": {str(batch): len(chosen) for batch, chosen in analysis.per_batch.items()},
        },
        "routed": analysis.risk is not None,
    }
    if analysis.risk:
        figures |= {"uncounted": uncounted} | _risk_figures(analysis, analysis.risk)
    return figures


def _best(analysis: Analysis, measured: pd.DataFrame | None) -> list[TableRow]:
    """The first of the selection, each with its score and interval as far as there are any."""
    score, shown = analysis.score, analysis.selected[:TOP]
    columns = analysis.experts.find(shown)
    rows: list[TableRow] = [{"Layer_Expert": analysis.experts.names[column]} for column in columns]
    if score is None or measured is None or analysis.scored is None:
        return rows
    by_expert = measured.set_index(["layer", "expert"])
    for row, column, expert in zip(rows, columns, shown, strict=True):
        row["score"] = analysis.scored.scores[column]
        row |= {name: by_expert.at[expert, name] for name in score.interval or () if name in by_expert}
    return [_plain(row) for row in rows]


def _risk_figures(analysis: Analysis, risk: Risk) -> dict[str, Any]:
    scores = risk.scores()
    (best,) = Rule(GUILTY, TOP).choose(scores[None])
    return {
        "routing_score": risk.score.name,
        "tokens": dict(zip(LABELS, risk.pooled.tokens[0].tolist(), strict=True)),
        "undefined_experts": int(np.isnan(scores).sum()),
        "undefined_batches": risk.undefined_batches,
        "significant": int((risk.table["q_value"] < SIGNIFICANT).sum()),
        "split_half": risk.split_half,
        "adjusted": risk.adjusted,
        "top": [_plain(row) for row in risk.table.iloc[best].to_dict("records")],
        "batch_top": _group_tops(analysis.experts, risk.first_batches[:BATCHES_SHOWN], analysis.batch_rows.batch_ids),
        "category_top": _group_tops(analysis.experts, risk.categories, analysis.batch_rows.categories),
        "category_selected": {name: len(chosen) for name, chosen in risk.per_category.items()},
    }


def _group_tops(experts: Experts, groups: Groups, keys: Any) -> dict[str, list[TableRow]]:
    """The best experts of each group by its own score, with its own rates."""
    columns = groups.columns()
    best = Rule(GUILTY, GROUP_TOP).choose(groups.scores())
    shown = ("a_safe_n", "a_unsafe_n", "risk_diff")
    return {
        str(key): [
            _plain({"Layer_Expert": experts.names[one]} | {name: columns[name][group, one] for name in shown})
            for one in chosen
        ]
        for group, (key, chosen) in enumerate(zip(keys, best, strict=False))
    }


def _plain(row: TableRow) -> TableRow:
    values = {key: value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
    return {key: None if value != value else value for key, value in values.items()}
