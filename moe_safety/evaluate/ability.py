"""Ability: how likely a model finds the answers that benign prompts should get, and how often it gives just these."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from moe_safety.evaluate.plan import LOSSES
from moe_safety.evaluate.statistics import rate
from moe_safety.generation import Engine
from moe_safety.generation.items import given_answers, tables_of
from moe_safety.jobs import Parts

LOSSES_SCHEMA = pa.schema([("prompt_id", pa.string()), ("loss", pa.float64()), ("answer_tokens", pa.int32())])
"""The losses of a reference answer's tokens, summed."""


def weigh(engine: Engine, rows: pa.Table) -> pa.Table:
    """An item of reference answers."""
    import torch

    before, answers = given_answers(rows)
    losses, row = engine.losses(before, answers)
    sums = torch.zeros(len(rows), dtype=torch.float64, device=losses.device)
    sums.index_add_(0, row.to(losses.device), losses.double())
    counts = [len(answer) for answer in answers]
    columns = {"prompt_id": rows["prompt_id"].combine_chunks(), "loss": sums.tolist(), "answer_tokens": counts}
    return pa.table(columns, schema=LOSSES_SCHEMA)


def benign_losses(parts: Parts) -> dict[str, tuple[float, int]]:
    """By benign prompt, the sum of the losses of its reference answer's tokens, and how many these are; in the order of
    ids, so that sums do not hang on how prompts were packed."""
    rows = [row for table in tables_of(parts, LOSSES) for row in table.to_pylist()]
    return {row["prompt_id"]: (row["loss"], row["answer_tokens"]) for row in sorted(rows, key=_by_id)}


def _by_id(row: dict[str, Any]) -> str:
    return str(row["prompt_id"])


def benign_loss(parts: Parts) -> float | None:
    """Nats per token of the reference answers; nothing where no benign prompt has one."""
    known = benign_losses(parts).values()
    return float(sum(loss for loss, _ in known) / sum(tokens for _, tokens in known)) if known else None


def benign_exact(responses: pa.Table) -> dict[str, Any]:
    """The share of benign prompts that were answered as their reference says, white space aside."""
    rows = [row for row in responses.to_pylist() if row["label"] == "benign" and row["reference"] is not None]
    exact = [row["answer"].split() == row["reference"].split() for row in rows]
    return rate([row["goal_id"] for row in rows], exact).to_dict()
