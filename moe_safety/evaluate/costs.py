"""What training took, arm by arm: all are trained on the same batches in the same order, but not all read as much of a
row, and little passes through a few experts where all of it passes through a whole part of the model."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.arms import SeededArm
from moe_safety.batches.files import prompts_digest
from moe_safety.pipeline import BATCH_MASKS, BATCHES
from moe_safety.routing.table import matrix
from moe_safety.rundir import RunDir, is_finished, manifest_name, summary_of
from moe_safety.train.train import METADATA

NOTHING: Mapping[str, Any] = {
    "steps": 0,
    "trained_parameters": 0,
    "tokens_read": 0,
    "dose": 0.0,
    "training_seconds": 0.0,
}
"""Of an arm that trains nothing."""


class Costs:
    """Tells of every arm of a run, from what its training left and from the base's routing, if that was captured."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.reads: tuple[str, ...] = (BATCHES, *_captured(run)) if _is_captured(run) else ()
        """What it reads of the run directory, beside what training left."""

    @cached_property
    def _routed(self) -> _Routed | None:
        return _Routed(self.run) if self.reads else None

    def of(self, arm: SeededArm) -> Mapping[str, Any]:
        """The figures of an arm, under the names of `NOTHING`. Tokens count as often as a model reads them in a step:
        twice where a row is read in two forms, or by the model before training too. The dose weighs each by the share
        of the base's routing weight, over layers and over the counted tokens of its batch's rows, that goes to the
        experts which the batch trains; what is no routed expert has all of it."""
        if not arm.arm.phases:
            return NOTHING
        told = self.run.read_json(f"train/{arm.name}/{METADATA}")
        log, router = told["training_logs"], told["router_params"]
        both = len(arm.arm.phases) > 1
        # Arms of earlier versions tell of the tokens of batches, and not of what was read.
        counted = all("batch_tokens" in row for row in log)
        return {
            "steps": len(log),
            "trained_parameters": told["trainable_params"] + (router if both else 0),
            "tokens_read": sum(row["tokens"] for row in log) if counted else None,
            "dose": self._dose(arm, log) if counted else None,
            "training_seconds": sum(row["seconds"] for row in log),
        }

    def _dose(self, arm: SeededArm, log: Sequence[Mapping[str, Any]]) -> float | None:
        """Nothing where it cannot be told: experts were trained, and no routing was captured."""
        shares: Mapping[int, float] = {}
        if arm.arm.choice:
            if self._routed is None:
                return None
            stored = self.run.read_bytes(f"train/{arm.name}/{BATCH_MASKS}")
            masks = np.load(io.BytesIO(stored), allow_pickle=False)
            shares = self._routed.shares(masks, arm.config.train.labels)
        found = 0.0
        for row in log:
            for batch, tokens in zip(row["batch_idx"], row["batch_tokens"], strict=True):
                found += tokens * (1.0 if row["phase"] == "router" else shares.get(batch, 1.0))
        return found


def _is_captured(run: RunDir) -> bool:
    """Whether counts are there, and of these prompts."""
    return is_finished(run, "capture") and (
        run.read_json(manifest_name("capture"))["inputs"].get("prompts") == prompts_digest(run)
    )


def _captured(run: RunDir) -> list[str]:
    files: list[str] = summary_of(run, "capture")["files"]
    return files


class _Routed:
    """The base's routing weights of every row of the batches."""

    def __init__(self, run: RunDir) -> None:
        table = pa.concat_tables([run.read_table(name, ["prompt_id", "weights"]) for name in _captured(run)])
        self._weights = matrix(table, "weights")
        batches = run.read_table(BATCHES, ["batch_idx", "prompt_id", "label"])
        self._prompt = pc.index_in(batches["prompt_id"], value_set=table["prompt_id"]).to_numpy()
        self._batch, self._label = (batches[name].to_numpy() for name in ("batch_idx", "label"))

    def shares(self, masks: np.ndarray, labels: Sequence[str]) -> dict[int, float]:
        """By batch, the mean over layers of the share of its learned rows' weight that its mask has."""
        found, learned = {}, np.isin(self._label, list(labels))
        for batch, mask in zip(np.unique(self._batch).tolist(), masks, strict=True):
            rows = self._weights[self._prompt[learned & (self._batch == batch)]]
            rows = rows.sum(axis=0, dtype=np.float64).reshape(mask.shape)
            whole = rows.sum(axis=1)
            found[batch] = float(np.mean((rows * mask).sum(axis=1) / np.where(whole > 0, whole, 1)))
        return found
