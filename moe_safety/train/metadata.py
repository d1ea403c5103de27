"""`training_metadata.json`: the earlier scripts' keys, and what a run took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from moe_safety.arms import SeededArm
from moe_safety.identify import Pair
from moe_safety.pipeline import BATCHES, EXPERT_GRADIENTS
from moe_safety.rundir import RunDir
from moe_safety.train.rounds import Round

_SUMMARISED = 3
"""Batches whose experts are named."""


def metadata(seeded: SeededArm, run: RunDir, trainable: int, rounds: Sequence[Round]) -> dict[str, Any]:
    """Everything that the run did, as plain data; `trainable` parameters trained, over all rounds."""
    config, arm = seeded.config, seeded.arm
    moved = union_of(rounds)
    per_batch = _per_batch(rounds)
    outcomes = [outcome for each in rounds for outcome in each.outcomes.values()]
    logs = [
        {"round": each.number, "phase": phase, **row}
        for each in rounds
        for phase, outcome in each.outcomes.items()
        for row in outcome["log"]
    ]
    return {
        "arm": seeded.name,
        "training_mode": arm.training_mode,
        "note": arm.note(config),
        "model_name": config.model.name,
        "batch_size": config.batches.batch_size,
        "safe_ratio": config.batches.safe_ratio,
        "num_batches": pc.count_distinct(run.read_table(BATCHES, ["batch_idx"])["batch_idx"]).as_py(),
        "total_unique_unsafe_experts": len(moved),
        "per_batch_unsafe_expert_counts": [len(experts) for experts in per_batch],
        "batch_unsafe_experts_summary": per_batch[:_SUMMARISED],
        "trainable_params": trainable,
        "total_params": outcomes[0]["total_params"],
        "trainable_ratio": trainable / outcomes[0]["total_params"],
        "router_params": max((one["router"]["trainable_params"] for one in _with_router(rounds)), default=0),
        "router_rounding_per_round": {
            str(each.number): each.outcomes["router"]["rounding"] for each in rounds if "router" in each.outcomes
        },
        "identified_experts_per_round": {
            str(each.number): {"experts": [list(pair) for pair in each.selection.experts] if each.selection else []}
            for each in rounds
        },
        "expert_gradients_per_round": {
            str(each.number): found
            for each in rounds
            if (found := _gradients(run, f"{each.folder}/{EXPERT_GRADIENTS}"))
        },
        "seconds_per_step": float(np.median([row["seconds"] for row in logs])),
        "tokens_per_second": sum(row["tokens"] for row in logs) / sum(row["seconds"] for row in logs),
        "peak_memory_bytes": max(outcome["peak_memory_bytes"] for outcome in outcomes),
        "training_logs": logs,
    }


def union_of(rounds: Sequence[Round]) -> list[Pair]:
    """Every expert that some round may have moved."""
    return sorted(set().union(*(each.selection.union() for each in rounds if each.selection)))


def _per_batch(rounds: Sequence[Round]) -> list[list[list[int]]]:
    """The experts of each batch, in the last round; batches keep their masks unless experts are identified anew."""
    last = rounds[-1].selection
    return [[list(pair) for pair in experts] for _, experts in sorted(last.per_batch.items())] if last else []


def _with_router(rounds: Sequence[Round]) -> list[dict[str, dict[str, Any]]]:
    return [dict(each.outcomes) for each in rounds if "router" in each.outcomes]


def _gradients(run: RunDir, name: str) -> dict[str, float]:
    """In the earlier scripts' form."""
    if not run.exists(name):
        return {}
    table = run.read_table(name, ["layer", "expert", "gradient"]).to_pylist()
    return {f"L{row['layer']}_E{row['expert']}": row["gradient"] for row in table}
