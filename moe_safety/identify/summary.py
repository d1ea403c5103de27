"""The figures of `identify` worth keeping: plain data for the manifest, from which they are printed."""

from __future__ import annotations

from typing import Any

import numpy as np

from moe_safety.config import IdentifyConfig
from moe_safety.identify.analysis import Analysis, Groups, score_column
from moe_safety.identify.places import LABELS
from moe_safety.identify.rules import Rule

TOP, GROUP_TOP, BATCHES_SHOWN = 10, 5, 5
SIGNIFICANT = 0.05

Row = dict[Any, Any]


def summarise(analysis: Analysis, settings: IdentifyConfig, uncounted: int) -> dict[str, Any]:
    """An undefined figure is None."""
    table, score, sizes = (
        analysis.table,
        settings.routing_score,
        [len(chosen) for chosen in analysis.per_batch.values()],
    )
    (best,) = Rule(None, TOP).choose(table[score_column(score)].to_numpy()[None])
    return {
        "method": settings.method,
        "score": settings.ranked_by,
        "routing_score": score,
        "best": [f"L{layer:02d}_E{expert:02d}" for layer, expert in analysis.selected[:TOP]],
        "experts": len(table),
        "batches": len(sizes),
        "tokens": dict(zip(LABELS, analysis.batches.counts.tokens.sum(axis=0).tolist(), strict=True)),
        "uncounted": uncounted,
        "undefined_experts": int(table[score_column(score)].isna().sum()),
        "undefined_batches": int(np.isnan(analysis.batches.scores(score)).any(axis=1).sum()),
        "selected": len(analysis.selected),
        "per_batch": {
            "min": min(sizes),
            "max": max(sizes),
            "mean": float(np.mean(sizes)),
            "union": len(set().union(*analysis.per_batch.values())),
        },
        "significant": int((table["q_value"] < SIGNIFICANT).sum()),
        "split_half": analysis.split_half,
        "adjusted": analysis.batches.adjusted,
        "top": [_plain(row) for row in table.iloc[best].to_dict("records")],
        "batch_top": _group_tops(analysis, analysis.batches[:BATCHES_SHOWN], analysis.places.batch_ids, score),
        "category_top": _group_tops(analysis, analysis.categories, analysis.places.categories, score),
        "category_selected": {name: len(chosen) for name, chosen in analysis.per_category.items()},
    }


def _group_tops(analysis: Analysis, groups: Groups, keys: Any, score: str) -> dict[str, list[Row]]:
    """The best experts of each group by its own score, with its own rates."""
    columns = groups.columns()
    best = Rule(None, GROUP_TOP).choose(groups.scores(score))
    shown = ("a_safe_n", "a_unsafe_n", "risk_diff")
    return {
        str(key): [
            _plain({"Layer_Expert": analysis.experts.names[one]} | {name: columns[name][group, one] for name in shown})
            for one in chosen
        ]
        for group, (key, chosen) in enumerate(zip(keys, best, strict=False))
    }


def _plain(row: Row) -> Row:
    values = {key: value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
    return {key: None if value != value else value for key, value in values.items()}
