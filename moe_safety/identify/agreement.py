"""Do methods name the same experts? Jaccard of their best k, and rank correlation, overall and layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from moe_safety.identify.experts import Experts
from moe_safety.identify.rules import Rule

AGREEMENT = "agreement.parquet"
SCHEMA = pa.schema(
    [
        ("a", pa.string()),
        ("b", pa.string()),
        ("layer", pa.int32()),
        ("experts", pa.int32()),
        ("k", pa.int32()),
        ("jaccard", pa.float64()),
        ("spearman", pa.float64()),
    ]
)


def agreement_table(scores: Mapping[str, np.ndarray], experts: Experts, top_k: int) -> pa.Table:
    """A row for each pair of methods and each layer, and one for all layers together, whose `layer` is null.

    Only experts that both methods scored are compared; within a layer k is its part of `top_k`.
    """
    rows = []
    for (a, left), (b, right) in combinations(scores.items(), 2):
        rows.append({"a": a, "b": b, "layer": None} | _compare(left, right, top_k))
        for layer in np.unique(experts.layer):
            here = experts.layer == layer
            share = max(1, round(top_k * here.sum() / len(experts)))
            rows.append({"a": a, "b": b, "layer": int(layer)} | _compare(left[here], right[here], share))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def jaccard(mine: set[int], theirs: set[int]) -> float | None:
    """How much two selections share; of two empty ones nothing can be said."""
    return len(mine & theirs) / len(mine | theirs) if mine | theirs else None


def _compare(left: np.ndarray, right: np.ndarray, k: int) -> dict[str, Any]:
    from scipy.stats import spearmanr

    both = ~(np.isnan(left) | np.isnan(right))
    left, right = left[both], right[both]
    k = min(k, len(left))
    mine, theirs = ({*Rule(None, k).choose(side[None])[0].tolist()} for side in (left, right))
    varied = len(left) > 2 and np.ptp(left) > 0 and np.ptp(right) > 0
    return {
        "experts": len(left),
        "k": k,
        "jaccard": jaccard(mine, theirs),
        "spearman": float(spearmanr(left, right).statistic) if varied else None,
    }
