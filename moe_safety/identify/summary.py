"""The figures of `identify` worth keeping: plain data for the manifest, from which they are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moe_safety.config import IdentifyConfig
from moe_safety.identify.experts import Experts
from moe_safety.identify.places import LABELS
from moe_safety.identify.rules import Rule

if TYPE_CHECKING:
    from moe_safety.identify.analysis import Analysis, Groups, Risk

TOP, GROUP_TOP, BATCHES_SHOWN = 10, 5, 5
SIGNIFICANT = 0.05

Row = dict[Any, Any]


def summarise(analysis: Analysis, settings: IdentifyConfig, uncounted: int) -> dict[str, Any]:
    """An undefined figure is None; without routing its figures are left out, and `routed` says so."""
    sizes = [len(chosen) for chosen in analysis.per_batch.values()]
    figures = {
        "method": settings.method,
        "score": settings.ranked_by,
        "ranking": settings.ranking,
        "lowest": settings.lowest,
        "best": [f"L{layer:02d}_E{expert:02d}" for layer, expert in analysis.selected[:TOP]],
        "experts": len(analysis.experts),
        "batches": len(sizes),
        "selected": len(analysis.selected),
        "per_batch": {
            "min": min(sizes),
            "max": max(sizes),
            "mean": float(np.mean(sizes)),
            "union": len(set().union(*analysis.per_batch.values())),
        },
        "routed": analysis.risk is not None,
    }
    if analysis.risk:
        figures |= {"uncounted": uncounted} | _risk_figures(analysis, analysis.risk, settings.routing_score)
    return figures


def _risk_figures(analysis: Analysis, risk: Risk, score: str) -> dict[str, Any]:
    scores = risk.scores(score)
    (best,) = Rule(None, TOP).choose(scores[None])
    return {
        "routing_score": score,
        "tokens": dict(zip(LABELS, risk.batches.counts.tokens.sum(axis=0).tolist(), strict=True)),
        "undefined_experts": int(np.isnan(scores).sum()),
        "undefined_batches": int(np.isnan(risk.batches.scores(score)).any(axis=1).sum()),
        "significant": int((risk.table["q_value"] < SIGNIFICANT).sum()),
        "split_half": risk.split_half,
        "adjusted": risk.batches.adjusted,
        "top": [_plain(row) for row in risk.table.iloc[best].to_dict("records")],
        "batch_top": _group_tops(analysis.experts, risk.batches[:BATCHES_SHOWN], analysis.places.batch_ids, score),
        "category_top": _group_tops(analysis.experts, risk.categories, analysis.places.categories, score),
        "category_selected": {name: len(chosen) for name, chosen in risk.per_category.items()},
    }


def _group_tops(experts: Experts, groups: Groups, keys: Any, score: str) -> dict[str, list[Row]]:
    """The best experts of each group by its own score, with its own rates."""
    columns = groups.columns()
    best = Rule(None, GROUP_TOP).choose(groups.scores(score))
    shown = ("a_safe_n", "a_unsafe_n", "risk_diff")
    return {
        str(key): [
            _plain({"Layer_Expert": experts.names[one]} | {name: columns[name][group, one] for name in shown})
            for one in chosen
        ]
        for group, (key, chosen) in enumerate(zip(keys, best, strict=False))
    }


def _plain(row: Row) -> Row:
    values = {key: value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
    return {key: None if value != value else value for key, value in values.items()}
