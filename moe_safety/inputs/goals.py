"""What is known of each goal, in a few bytes."""

from __future__ import annotations

from array import array

import numpy as np
import pyarrow as pa

from moe_safety.inputs.numbering import Numbering
from moe_safety.inputs.record import SPLITS
from moe_safety.inputs.split import Stratum, assign_splits

_NONE, _BENIGN, _HARMFUL = range(3)


class Goals:
    """Goals by their numbers, in the order in which they come. A place stands for a row of a source."""

    def __init__(self) -> None:
        self._ids = Numbering()
        self._kind = array("b")
        """Whether there is a prompt of it, and one that does harm."""
        self._category = array("i")
        self._split = array("b")
        self._split_place = array("q")
        self._attacked = array("q")
        self._asked = array("b")
        self._categories: dict[str, int] = {}
        self._names: list[str] = []

    def number(self, goal_id: str) -> int:
        """The goal's number."""
        number = self._ids.number(int(goal_id, 16))
        if number == len(self._kind):
            for column, value in (
                (self._kind, _NONE),
                (self._category, -1),
                (self._split, -1),
                (self._split_place, -1),
                (self._attacked, -1),
                (self._asked, 0),
            ):
                column.append(value)
        return number

    def note_attack(self, goal: int, place: int) -> None:
        """Takes down where it is attacked first."""
        if self._attacked[goal] < 0:
            self._attacked[goal] = place

    def attacked(self, goal_id: str) -> int | None:
        """The place of the first attack on it."""
        number = self._ids.find(int(goal_id, 16))
        return None if number < 0 or self._attacked[number] < 0 else self._attacked[number]

    def note_split(self, goal: int, split: str, place: int) -> tuple[str, int] | None:
        """Takes down the split that a row gives it; another that was given before, and where."""
        if self._split[goal] < 0:
            self._split[goal], self._split_place[goal] = SPLITS.index(split), place
        first = SPLITS[self._split[goal]]
        return None if first == split else (first, self._split_place[goal])

    def is_asked(self, goal: int) -> bool:
        """Whether there is a plain form of it, or will be one."""
        return bool(self._asked[goal])

    def note_asked(self, goal: int) -> None:
        """Takes down that there is one."""
        self._asked[goal] = 1

    def note_prompt(self, goal: int, category: str | None, *, harmful: bool) -> int:
        """Takes a prompt's kind and category down; returns the category's number, which is -1 where it has none. Of
        several categories a goal has the first by name, so that the order of rows does not matter."""
        self._kind[goal] = max(self._kind[goal], _HARMFUL if harmful else _BENIGN)
        if category is None:
            return -1
        number = self._categories.setdefault(category, len(self._names))
        if number == len(self._names):
            self._names.append(category)
        if self._category[goal] < 0 or category < self._names[self._category[goal]]:
            self._category[goal] = number
        return number

    def prompted(self) -> int:
        """How many goals have a prompt."""
        return int((np.asarray(self._kind) != _NONE).sum())

    def splits(self, test_fraction: float, validation_fraction: float, seed: int) -> np.ndarray:
        """The split of each goal that has a prompt, as its place in `SPLITS`; one that a file gives is kept."""
        splits, kind = np.array(self._split), np.asarray(self._kind)
        drawn = np.flatnonzero((splits < 0) & (kind != _NONE))
        names = ["", *self._names]
        # No category and an empty one are the same.
        category = np.array([place if name else 0 for place, name in enumerate(names)])[np.asarray(self._category) + 1]
        cells, stratum = np.unique(kind[drawn] * len(names) + category[drawn], return_inverse=True)
        kinds = {_HARMFUL: "harmful", _BENIGN: "benign"}
        strata = [Stratum(kinds[cell // len(names)], names[cell % len(names)]) for cell in cells.tolist()]
        ids = (f"{self._ids[goal]:016x}" for goal in drawn.tolist())
        splits[drawn] = assign_splits(strata, stratum, ids, test_fraction, validation_fraction, seed)
        return splits

    def categories(self, goals: np.ndarray, own: np.ndarray) -> pa.Array:
        """The category of each prompt: its own by number, or else its goal's."""
        number = np.where(own < 0, np.asarray(self._category)[goals], own)
        return pa.array(self._names, pa.string()).take(pa.array(number, mask=number < 0))
