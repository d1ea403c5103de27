"""The batches as the earlier scripts kept them: a dict for each, with what was said and which experts were reached.

Where they kept the router's scores of every token, here stand the counts of every prompt.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from moe_safety.batches.files import BATCHES
from moe_safety.models.layout import MoELayout
from moe_safety.routing.table import layout_of, matrix
from moe_safety.rundir import RunDir, summary_of

Counts = dict[str, tuple[int, np.ndarray]]
"""By prompt: how many tokens were counted, and where they went, as [MoE layers, experts of the largest]."""


def batch_data_list(run: RunDir, counts: Counts) -> list[dict[str, Any]]:
    """One dict for each batch, in order."""
    rows = run.read_table(BATCHES).sort_by([("batch_idx", "ascending"), ("in_batch_idx", "ascending")]).to_pylist()
    return [_batch(number, list(its), counts) for number, its in groupby(rows, key=lambda row: row["batch_idx"])]


def read_counts(run: RunDir) -> tuple[Counts, MoELayout]:
    """What `capture` counted."""
    counts: Counts = {}
    for name in summary_of(run, "capture")["files"]:
        table = run.read_table(name)
        layout = layout_of(table.schema)
        by_prompt = matrix(table, "counts").reshape(-1, *layout.shape)
        ids, tokens = table["prompt_id"].to_pylist(), table["tokens"].to_pylist()
        for prompt_id, counted, by_expert in zip(ids, tokens, by_prompt, strict=True):
            counts[prompt_id] = counted, by_expert.copy()
    return counts, layout


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


def _batch(number: int, rows: list[dict[str, Any]], counts: Counts) -> dict[str, Any]:
    outputs = [_output(row, counts) for row in rows]
    safe, unsafe = ([i for i, row in enumerate(rows) if row["label"] == label] for label in ("safe", "unsafe"))
    return {
        "batch_idx": number,
        "batch_outputs": outputs,
        "safe_indices": safe,
        "unsafe_indices": unsafe,
        "safe_routings": [outputs[place]["counts"] for place in safe],
        "unsafe_routings": [outputs[place]["counts"] for place in unsafe],
    }


def _output(row: dict[str, Any], counts: Counts) -> dict[str, Any]:
    tokens, by_expert = counts[row["prompt_id"]]
    return {
        "prompt": row["messages"][-1]["content"],
        "messages": row["messages"],
        "label": row["label"],
        "batch_idx": row["batch_idx"],
        "in_batch_idx": row["in_batch_idx"],
        "prompt_id": row["prompt_id"],
        "generated_text": row["answer"],
        "target_response": row["target"],
        "num_counted_tokens": tokens,
        "counts": by_expert,
    }
