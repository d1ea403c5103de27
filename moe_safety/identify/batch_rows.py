"""The rows of all batches, joined with what `prompts.parquet` knows of each prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.batches.stretches import stretches
from moe_safety.errors import InputError
from moe_safety.inputs.table import group_of
from moe_safety.pipeline import BATCHES, PROMPTS
from moe_safety.rundir import RunDir
from moe_safety.scores import BENIGN, LABELS, SAFE, UNSAFE


class PromptIds:
    """Different ids in some order, found by their bytes: tens of bytes each, where a pandas index takes hundreds."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> str:
        return self.ids[place].decode()

    def names(self, places: np.ndarray) -> list[str]:
        """Those at these places, as texts."""
        return [one.decode() for one in self.ids[places].tolist()]

    def take(self, places: np.ndarray) -> PromptIds:
        """Those at these places."""
        return PromptIds(self.ids[places])

    def find(self, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Where each stands; -1 where it is not among them."""
        asked = as_bytes(ids)
        place = np.minimum(np.searchsorted(self._sorted, asked), len(self) - 1)
        return np.where(self._sorted[place] == asked, self._order[place], -1)


def as_bytes(ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The ids as an array of bytes, all as long as the longest."""
    whole = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    width = max(1, pc.max(pc.binary_length(whole)).as_py() or 0)
    padded = pc.binary_join_element_wise(whole.cast(pa.binary()), b"\0" * width, b"")
    fixed = pc.binary_slice(padded, 0, width).cast(pa.binary(width))
    return np.frombuffer(fixed.buffers()[1], f"S{width}")[fixed.offset : fixed.offset + len(fixed)]


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
    """Which of `categories` its goal belongs to, or its batch where batches are grouped by another column; -1 where the
    files name none, and for harmless prompts."""
    prompt_ids: PromptIds
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
        attacks = self.label < BENIGN
        least, most = np.full(len(self.batch_ids), len(self.categories)), np.full(len(self.batch_ids), -1)
        np.minimum.at(least, self.batch[attacks], self.category[attacks])
        np.maximum.at(most, self.batch[attacks], self.category[attacks])
        wrong = (least != most) | (least < 0)
        if wrong.any():
            batch = self.batch_ids[int(np.argmax(wrong))]
            problem = f"batch {batch} has attacks of no category, or of several; fill each from one of them"
            raise InputError(problem, key="batches.group_by")
        return most

    def fewest_goals(self, *labels: int) -> int:
        """How many goals the label has that has fewest of them."""
        return min(len(np.unique(self.goal[self.label == label])) for label in labels)

    def has(self, label: int) -> bool:
        """Whether a row has this label."""
        return bool((self.label == label).any())

    def stretches(self) -> list[np.ndarray]:
        """Which rows the stretches of batches have, in order."""
        number = stretches(self.batch)
        order = np.argsort(number, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)

    def cut(self, rows: np.ndarray) -> BatchRows:
        """Some of them, whose prompts and batches, all of which are there, count from 0. Goals keep their numbers."""
        batches, batch = np.unique(self.batch[rows], return_inverse=True)
        prompts, prompt = np.unique(self.prompt[rows], return_inverse=True)
        return replace(
            self,
            prompt=prompt,
            label=self.label[rows],
            batch=batch,
            goal=self.goal[rows],
            category=self.category[rows],
            prompt_ids=self.prompt_ids.take(prompts),
            batch_ids=self.batch_ids[batches],
        )


def read_batch_rows(run: RunDir, group_by: str | None = None) -> BatchRows:
    """Reads `batches.parquet` and `prompts.parquet`, but for their texts; categories are those of a column, if batches
    are grouped by another."""
    for name in (BATCHES, PROMPTS):
        if not run.exists(name):
            raise InputError("is not there; run the stages before `identify`", file=run.path(name))
    batches = run.read_table(BATCHES, ["batch_idx", "prompt_id", "label"])
    if not len(batches):
        raise InputError("holds no batch", file=run.path(BATCHES))
    others = ["label", "attack", "source", "columns"] if group_by not in (None, "category") else []
    prompts = run.read_table(PROMPTS, ["prompt_id", "goal_id", "category", *others])
    rows = _find(run, batches["prompt_id"], prompts["prompt_id"], f"is not in {PROMPTS}")
    label = _find(run, batches["label"], pa.chunked_array([LABELS]), f"is none of {', '.join(LABELS)}")
    goals = _codes(prompts["goal_id"])
    batch_ids, batch = np.unique(batches["batch_idx"].to_numpy(), return_inverse=True)
    if others and group_by:
        named = _groups_of_batches(prompts, group_by, goals, rows, label, batch)
    else:
        named = _category_of_goals(goals, prompts["category"])[goals[rows]]
    named[label >= BENIGN] = None
    category, categories = pd.factorize(named, sort=True)
    _, goal = np.unique(goals[rows], return_inverse=True)
    ids = batches["prompt_id"].combine_chunks().dictionary_encode()
    prompt, found = ids.indices.to_numpy(), PromptIds(as_bytes(ids.dictionary))
    small = (label.astype(np.int8), batch.astype(np.int32), goal.astype(np.int32), category.astype(np.int32))
    return BatchRows(prompt, *small, found, batch_ids, tuple(categories))


def _codes(values: pa.ChunkedArray) -> np.ndarray:
    return values.combine_chunks().dictionary_encode().indices.to_numpy()


def _find(run: RunDir, values: pa.ChunkedArray, known: pa.ChunkedArray, complaint: str) -> np.ndarray:
    """Where each value stands among the known ones."""
    found = pc.index_in(values, value_set=known)
    if found.null_count:
        row = int(np.argmax(found.is_null().to_numpy()))
        raise InputError(f"{values[row].as_py()!r} {complaint}", file=run.path(BATCHES), row=row + 1)
    return found.to_numpy()


def _category_of_goals(goals: np.ndarray, categories: pa.ChunkedArray) -> np.ndarray:
    """A goal has one category, the first that a prompt of it names: its plain form may come from another file than
    its attack, and that file may name none."""
    encoded = categories.combine_chunks().dictionary_encode()
    named = np.flatnonzero(encoded.is_valid().to_numpy(zero_copy_only=False))
    owners, first = np.unique(goals[named], return_index=True)
    category = np.full(int(goals.max()) + 1, None, dtype=object)
    names = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    category[owners] = names[encoded.indices.fill_null(len(names) - 1).to_numpy()[named[first]]]
    return category


def _groups_of_batches(
    prompts: pa.Table, name: str, goals: np.ndarray, rows: np.ndarray, label: np.ndarray, batch: np.ndarray
) -> np.ndarray:
    """Of each row of the batches what its attack has in this column, or the attack's plain form. A plain form is of
    what its batch is of: a goal that is attacked in several ways has it in batches of each."""
    found = [group_of(row, name) or None for part in prompts.to_batches() for row in part.to_pylist()]
    values, plain = np.array(found, dtype=object), np.full(int(goals.max()) + 1, None, dtype=object)
    forms = np.flatnonzero(pc.equal(prompts["label"], LABELS[SAFE]).to_numpy())
    plain[goals[forms]] = values[forms]
    named = np.where(pd.isna(values[rows]), plain[goals[rows]], values[rows])
    attacks, group = np.flatnonzero(label == UNSAFE), np.full(int(batch.max()) + 1, None, dtype=object)
    group[batch[attacks]] = named[attacks]
    return np.where(label == SAFE, group[batch], named)
