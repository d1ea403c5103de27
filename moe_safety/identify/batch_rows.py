"""The rows of all batches, joined with what `prompts.parquet` knows of each prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.errors import InputError
from moe_safety.inputs.table import group_of
from moe_safety.pipeline import BATCHES, PROMPTS
from moe_safety.rundir import RunDir
from moe_safety.scores import BENIGN, LABELS


@dataclass(frozen=True)
class BatchRows:
    """One entry per row of a batch. A prompt that stands in several counts in each."""

    prompt: np.ndarray
    """Which of `prompt_ids` stands there."""
    label: np.ndarray
    """Which of `LABELS` it is."""
    batch: np.ndarray
    """Which of `batch_ids` the row belongs to."""
    goal: np.ndarray
    category: np.ndarray
    """Which of `categories` its goal belongs to, or of the values of the column that batches are grouped by; -1 where
    the files name none, and for harmless prompts."""
    prompt_ids: pd.Index
    batch_ids: np.ndarray
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def n_goals(self) -> int:
        """The number of goals."""
        return int(self.goal.max()) + 1

    @property
    def attacked(self) -> np.ndarray:
        """Which goals have an attack or plain form, and are not those of harmless requests."""
        return np.bincount(self.goal, self.label < BENIGN, self.n_goals) > 0

    def category_of_batches(self) -> np.ndarray:
        """Which of `categories` each batch's attacks are of: all of one, or there is no mask that it would share."""
        found = np.full(len(self.batch_ids), -1)
        attacks = self.label < BENIGN
        for place, batch in enumerate(self.batch_ids.tolist()):
            here = np.unique(self.category[attacks & (self.batch == place)])
            if len(here) != 1 or here[0] < 0:
                problem = f"batch {batch} has attacks of no category, or of several; fill each from one of them"
                raise InputError(problem, key="batches.group_by")
            found[place] = here[0]
        return found

    def fewest_goals(self, *labels: int) -> int:
        """How many goals the label has that has fewest of them."""
        return min(len(np.unique(self.goal[self.label == label])) for label in labels)

    def has(self, label: int) -> bool:
        """Whether a row has this label."""
        return bool((self.label == label).any())


def read_batch_rows(run: RunDir, group_by: str | None = None) -> BatchRows:
    """Reads `batches.parquet` and `prompts.parquet`, but for their texts; categories are those of a column, if batches
    are grouped by another."""
    for name in (BATCHES, PROMPTS):
        if not run.exists(name):
            raise InputError("is not there; run the stages before `identify`", file=run.path(name))
    batches = run.read_table(BATCHES, ["batch_idx", "prompt_id", "label"])
    if not len(batches):
        raise InputError("holds no batch", file=run.path(BATCHES))
    others = ["attack", "source", "columns"] if group_by not in (None, "category") else []
    prompts = run.read_table(PROMPTS, ["prompt_id", "goal_id", "category", *others])
    rows = _find(run, batches["prompt_id"], prompts["prompt_id"], f"is not in {PROMPTS}")
    label = _find(run, batches["label"], pa.chunked_array([LABELS]), f"is none of {', '.join(LABELS)}")
    goals, _ = pd.factorize(prompts["goal_id"].to_pandas())
    values = np.array([group_of(row, group_by) for row in prompts.to_pylist()], object) if others and group_by else None
    named = _category_of_goals(goals, prompts["category"].to_numpy() if values is None else values)[goals[rows]]
    named[label >= BENIGN] = None
    category, categories = pd.factorize(named, sort=True)
    _, goal = np.unique(goals[rows], return_inverse=True)
    prompt, ids = pd.factorize(batches["prompt_id"].to_pandas())
    batch_ids, batch = np.unique(batches["batch_idx"].to_numpy(), return_inverse=True)
    return BatchRows(prompt, label, batch, goal, category, pd.Index(ids), batch_ids, tuple(categories))


def _find(run: RunDir, values: pa.ChunkedArray, known: pa.ChunkedArray, complaint: str) -> np.ndarray:
    """Where each value stands among the known ones."""
    found = pc.index_in(values, value_set=known)
    if found.null_count:
        row = int(np.argmax(found.is_null().to_numpy()))
        raise InputError(f"{values[row].as_py()!r} {complaint}", file=run.path(BATCHES), row=row + 1)
    return found.to_numpy()


def _category_of_goals(goals: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """A goal has one category, the first that a prompt of it names: its plain form may come from another file than
    its attack, and that file may name none."""
    named = np.flatnonzero(pd.notna(categories))
    owners, first = np.unique(goals[named], return_index=True)
    category = np.full(int(goals.max()) + 1, None, dtype=object)
    category[owners] = categories[named[first]]
    return category
