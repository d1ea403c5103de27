"""The batches as the earlier scripts kept them: a dict for each, with what was said and which experts were reached."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from moe_safety.export.captured import Captured
from moe_safety.pipeline import BATCHES
from moe_safety.rundir import RunDir


def batch_data_list(run: RunDir, captured: Captured) -> list[dict[str, Any]]:
    """One dict for each batch, in order."""
    rows = run.read_table(BATCHES).sort_by([("batch_idx", "ascending"), ("in_batch_idx", "ascending")]).to_pylist()
    return [_batch(number, list(its), captured) for number, its in groupby(rows, key=lambda row: row["batch_idx"])]


def sft_dataset(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The training examples of the unsafe prompts: each with the refusal that it is taught."""
    return [
        {
            "messages": [*output["messages"], {"role": "assistant", "content": output["target_response"]}],
            "prompt": output["prompt"],
            "target_response": output["target_response"],
        }
        for batch in batches
        for output in (batch["batch_outputs"][place] for place in batch["unsafe_indices"])
    ]


def _batch(number: int, rows: list[dict[str, Any]], captured: Captured) -> dict[str, Any]:
    safe, unsafe = ([i for i, row in enumerate(rows) if row["label"] == label] for label in ("safe", "unsafe"))
    batch = {
        "batch_idx": number,
        "batch_outputs": [_output(row, captured) for row in rows],
        "safe_indices": safe,
        "unsafe_indices": unsafe,
    }
    if captured.by_token:
        for name, places in (("safe_routings", safe), ("unsafe_routings", unsafe)):
            batch[name] = [captured.counted_routings(rows[place]["prompt_id"]) for place in places]
    return batch


def _output(row: dict[str, Any], captured: Captured) -> dict[str, Any]:
    prompt_id = row["prompt_id"]
    return {
        "prompt": row["messages"][-1]["content"],
        "messages": row["messages"],
        "label": row["label"],
        "batch_idx": row["batch_idx"],
        "in_batch_idx": row["in_batch_idx"],
        "prompt_id": prompt_id,
        "generated_text": row["answer"],
        "target_response": row["target"],
        "num_counted_tokens": captured.counted[prompt_id],
        "counts": captured.counts[prompt_id],
        **captured.lengths_of(prompt_id),
        **captured.routings_of(prompt_id),
    }
