"""What the stages of this room leave for later ones, and what decides whether counts still belong to it."""

from __future__ import annotations

import hashlib
import json

from moe_safety.errors import InputError
from moe_safety.rundir import RunDir

BATCHES = "batches.parquet"
RESPONSES = "responses/responses.parquet"


def prompts_digest(run: RunDir) -> str:
    """A hash of the prompts in the batches and of what the model said to them, however they are put together: batches
    can be formed anew of the same prompts without running the model again."""
    if not run.exists(BATCHES):
        raise InputError("is not there; run `compose` before", file=run.path(BATCHES))
    rows: dict[str, bytes] = {}
    with run.open_parquet(BATCHES) as batches:
        for piece in batches.iter_batches(2000, columns=["prompt_id", "messages", "answer"]):
            for row in piece.to_pylist():
                text = json.dumps([row["messages"], row["answer"]], ensure_ascii=False)
                rows[row["prompt_id"]] = hashlib.sha256(text.encode()).digest()
    digest = hashlib.sha256()
    for prompt_id, content in sorted(rows.items()):
        digest.update(prompt_id.encode() + content)
    return digest.hexdigest()
