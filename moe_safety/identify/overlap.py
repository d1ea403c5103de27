"""How far methods name the same experts, and selections of batches and of categories overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from moe_safety.identify.experts import Experts, Pair
from moe_safety.identify.select import Rule

AGREEMENT = "agreement.parquet"
OVERLAP = "overlap.parquet"
SERVING = "expert_overlap.parquet"
BATCHES_COMPARED = 256
"""The first so many batches are compared, each with each; all of a large set would be millions of pairs."""

_NAMES = pa.list_(pa.string())
_AGREEMENT_SCHEMA = pa.schema(
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
    """Jaccard of the best `top_k` and rank correlation: a row for each pair of methods and each layer, and one for all
    layers together, whose `layer` is null.

    Only experts that both methods scored are compared; within a layer k is its part of `top_k`.
    """
    rows = []
    for (a, left), (b, right) in combinations(scores.items(), 2):
        rows.append({"a": a, "b": b, "layer": None} | _compare(left, right, top_k))
        for layer in np.unique(experts.layer):
            here = experts.layer == layer
            share = max(1, round(top_k * here.sum() / len(experts)))
            rows.append({"a": a, "b": b, "layer": int(layer)} | _compare(left[here], right[here], share))
    return pa.Table.from_pylist(rows, schema=_AGREEMENT_SCHEMA)


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


def overlap_table(
    experts: Experts, per_batch: Mapping[int, list[Pair]], per_category: Mapping[str, list[Pair]]
) -> pa.Table:
    """Each pair of batches, and each of categories: their sizes, how many experts they share, and `jaccard`, the
    shared ones' part of the union (null where neither selects any)."""
    batches = {str(batch): pairs for batch, pairs in list(per_batch.items())[:BATCHES_COMPARED]}
    return pa.concat_tables([_overlaps(experts, "batch", batches), _overlaps(experts, "category", per_category)])


def _overlaps(experts: Experts, kind: str, selections: Mapping[str, list[Pair]]) -> pa.Table:
    names = np.array(list(selections), dtype=object)
    # Products of 0 and 1 in float32 are exact counts.
    member = experts.members(list(selections.values())).astype(np.float32)
    shared = (member @ member.T).astype(np.int64)
    a, b = np.triu_indices(len(names), k=1)
    sizes, both = np.diag(shared), shared[a, b]
    union = sizes[a] + sizes[b] - both
    columns = {
        "kind": pa.array([kind] * len(a), pa.string()),
        "a": pa.array(names[a], pa.string()),
        "b": pa.array(names[b], pa.string()),
        "size_a": sizes[a],
        "size_b": sizes[b],
        "shared": both,
        "jaccard": pa.array(both / np.maximum(union, 1), mask=union == 0),
    }
    return pa.table(columns)


def serving_table(
    experts: Experts,
    selected: Sequence[Pair],
    per_batch: Mapping[int, list[Pair]],
    per_category: Mapping[str, list[Pair]],
) -> pa.Table:
    """Each expert that is selected anywhere: whether globally, by how many batches, and by which categories."""
    chosen, categories = (experts.members(list(selections)) for selections in ([selected], per_category.values()))
    batches = experts.holders(per_batch.values())
    columns = np.flatnonzero(chosen[0] | (batches > 0) | categories.any(axis=0))
    names = np.array(list(per_category), dtype=object)
    return pa.table(
        {
            "layer": experts.layer[columns],
            "expert": experts.expert[columns],
            "Layer_Expert": pa.array([experts.names[column] for column in columns], pa.string()),
            "selected": chosen[0, columns],
            "batches": batches[columns],
            "categories": pa.array([names[serves].tolist() for serves in categories.T[columns]], _NAMES),
        }
    )
