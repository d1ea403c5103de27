"""How the selections of batches and of categories overlap, and which experts serve several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from moe_safety.identify.experts import Experts, Pair

_NAMES = pa.list_(pa.string())

BATCHES_COMPARED = 256
"""The first so many batches are compared, each with each; all of a large set would be millions of pairs."""


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
    chosen, batches, categories = (
        experts.members(list(selections)) for selections in ([selected], per_batch.values(), per_category.values())
    )
    columns = np.flatnonzero(chosen[0] | batches.any(axis=0) | categories.any(axis=0))
    names = np.array(list(per_category), dtype=object)
    return pa.table(
        {
            "layer": experts.layer[columns],
            "expert": experts.expert[columns],
            "Layer_Expert": pa.array([experts.names[column] for column in columns], pa.string()),
            "selected": chosen[0, columns],
            "batches": batches.sum(axis=0)[columns],
            "categories": pa.array([names[serves].tolist() for serves in categories.T[columns]], _NAMES),
        }
    )
