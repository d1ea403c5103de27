"""The figures of `identify`, as the manifest keeps them and as they are printed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moe_safety.config import IdentifyConfig
from moe_safety.identify.analysis import Analysis, Groups, score_column
from moe_safety.identify.places import LABELS
from moe_safety.identify.rules import Rule

_TOP, _GROUP_TOP, _BATCHES_SHOWN, _CATEGORIES_SHOWN = 10, 5, 5, 30
_Q_LEVEL = 0.05

Figures = dict[str, Any]


def summarise(analysis: Analysis, settings: IdentifyConfig, uncounted: int) -> Figures:
    """Plain data; an undefined figure is None."""
    table, score = analysis.table, score_column(settings.score)
    sizes = [len(chosen) for chosen in analysis.per_batch.values()]
    tokens = analysis.batches.counts.tokens
    ranked = Rule(None, _TOP).choose(table[score].to_numpy()[None])[0]
    categories = dict(zip(analysis.places.categories, _tops(analysis, analysis.categories, settings), strict=True))
    return {
        "method": settings.method,
        "score": settings.score,
        "experts": len(table),
        "batches": len(sizes),
        "tokens": dict(zip(LABELS, tokens.sum(axis=0).tolist(), strict=True)),
        "uncounted": uncounted,
        "undefined_experts": int(table[score].isna().sum()),
        "undefined_batches": int((tokens[:, :2] == 0).any(axis=1).sum()),
        "undefined_scores": int(np.isnan(analysis.batches.scores(settings.score)).any(axis=1).sum()),
        "selected": len(analysis.selected),
        "per_batch": {
            "min": min(sizes),
            "max": max(sizes),
            "mean": float(np.mean(sizes)),
            "union": len(set().union(*analysis.per_batch.values())),
        },
        "significant": int((table["q_value"] < _Q_LEVEL).sum()),
        "split_half": analysis.split_half,
        "adjusted": analysis.batches.adjusted,
        "top": _plain(table.iloc[ranked]),
        "batch_top": dict(
            zip(
                map(str, analysis.places.batch_ids.tolist()),
                _tops(analysis, analysis.batches[:_BATCHES_SHOWN], settings),
                strict=False,
            )
        ),
        "category_top": {
            name: {"selected": len(analysis.per_category[name]), "top": top} for name, top in categories.items()
        },
    }
