"""What the stages of this room leave for later ones, and what decides whether counts still belong to it."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from moe_safety.errors import InputError
from moe_safety.rundir import RunDir

BATCHES = "batches.parquet"
RESPONSES = "responses/responses.parquet"


def prompts_digest(run: RunDir) -> str:
    """A hash of the prompts in the batches and of what the model said to them, however they are put together: batches
    can be formed anew of the same prompts without running the model again."""
    if not run.exists(BATCHES):
        raise InputError("is not there; run `compose` before", file=run.path(BATCHES))
    found: list[np.ndarray] = []
    with run.open_parquet(BATCHES) as batches:
        for piece in batches.iter_batches(2000, columns=["prompt_id", "messages", "answer"]):
            rows = (json.dumps(list(row.values()), ensure_ascii=False).encode() for row in piece.to_pylist())
            digests = b"".join(hashlib.sha256(row).digest() for row in rows)
            found.append(np.frombuffer(digests, "V32"))
    # Sorted and each once: the order of batches, and prompts that stand in several, make no difference.
    return hashlib.sha256(np.unique(np.concatenate(found)).tobytes() if found else b"").hexdigest()
