"""Makes prompts of rows: a goal asked plainly, its attack forms, harmless requests and their wrapped forms."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from moe_safety.config import WrapperName
from moe_safety.errors import InputError
from moe_safety.inputs.conversation import Message, plain, with_system
from moe_safety.inputs.goals import Goals
from moe_safety.inputs.numbering import Numbering
from moe_safety.inputs.record import SPLITS, Row
from moe_safety.inputs.sources import SourceRows
from moe_safety.inputs.table import Prompt, Spool, Spooled, goal_id, prompt_id
from moe_safety.inputs.wrappers import wrap_conversation

_LABELS = ("safe", "unsafe", "benign", "control")
_ROW_BITS = 40
"""Of a place: the row's number, and above it that of its source."""


class _Origin(NamedTuple):
    source: SourceRows
    row: Row
    goal_id: str
    goal: int
    place: int


class Collector:
    """Gathers the prompts in order. A conversation that comes again is merged into the first.

    Texts go through a file; of a prompt and of a goal some dozens of bytes stay in memory.
    """

    def __init__(self, system: str) -> None:
        self._system = system
        self._sources: list[SourceRows] = []
        self._prompts = Spool()
        self._ids = Numbering()
        self._label, self._goal, self._category = array("b"), array("i"), array("i")
        """Of each prompt, as numbers."""
        self._goals = Goals()
        self._benign: list[tuple[SourceRows, array[int]]] = []
        """The sources of harmless requests, and which of their rows are prompts."""

    def add_attacks(self, sources: Sequence[SourceRows]) -> None:
        """For each row the plain form of its goal, unless that is there, and then the attack form."""
        # Where a file words the plain form itself, none is made here.
        for row in (row for source in sources if source.words_plain for row in source.rows):
            if row.label == "safe" and row.messages:
                self._goals.note_asked(self._goals.number(goal_id(row.goal)))
        for origin in self._origins(sources):
            row, asked = origin.row, self._goals.is_asked(origin.goal)
            self._goals.note_attack(origin.goal, origin.place)
            if row.label == "safe":
                self._add_plain_goal(origin, there=not row.messages and asked)
            else:
                if not asked:
                    self._add(origin, "safe", plain(row.goal, self._system))
                self._add(origin, "unsafe", row.messages, attack=row.attack, answer=row.answer)
            self._goals.note_asked(origin.goal)

    def add_benign(self, sources: Sequence[SourceRows]) -> None:
        """Harmless requests, as they are."""
        for source in sources:
            added = array("b")
            for origin in self._origins([source]):
                self._check_harmless(origin)
                row, messages = origin.row, self._plain(origin.row)
                added.append(self._add(origin, "benign", messages, answer=row.answer, target=row.target))
            self._benign.append((source, added))

    def add_controls(self, sources: Sequence[SourceRows]) -> None:
        """Harmless requests in an attack's form: the file's own, or the wrapper's."""
        for origin in self._origins(sources):
            self._check_harmless(origin)
            row, source = origin.row, origin.source.source
            if row.messages:
                self._add(origin, "control", row.messages, attack=row.attack, answer=row.answer, target=row.target)
            elif source.wrapper:
                messages = wrap_conversation(source.wrapper, self._plain(row))
                self._add(origin, "control", messages, attack=source.attack or source.wrapper, target=row.target)
            else:
                raise InputError("plain requests are no controls; give this source a `wrapper`", file=source.label)

    def derive_controls(self, wrapper: WrapperName) -> None:
        """Each benign prompt once more, its last turn in the wrapper."""
        for source, added in self._benign:
            for origin, is_prompt in zip(self._origins([source]), added, strict=True):
                if is_prompt:
                    wrapped = wrap_conversation(wrapper, self._plain(origin.row))
                    self._add(origin, "control", wrapped, attack=wrapper, target=origin.row.target)

    @property
    def goals(self) -> int:
        """How many goals the prompts have."""
        return self._goals.prompted()

    def close(self, test_fraction: float, validation_fraction: float, seed: int) -> Spooled:
        """All prompts, split by goal; a split that a file gives is kept. A prompt whose row names no category has its
        goal's, which another file may name."""
        goals = np.asarray(self._goal)
        splits = self._goals.splits(test_fraction, validation_fraction, seed)[goals]
        categories = self._goals.categories(goals, np.asarray(self._category))
        return self._prompts.close(pa.array(SPLITS).take(pa.array(splits)), categories)

    def table(self, test_fraction: float, validation_fraction: float, seed: int) -> pa.Table:
        """The same as a table."""
        return self.close(test_fraction, validation_fraction, seed).table

    def _origins(self, sources: Sequence[SourceRows]) -> Iterator[_Origin]:
        for source in sources:
            before = len(self._sources) << _ROW_BITS
            self._sources.append(source)
            for row in source.rows:
                id_ = goal_id(row.goal)
                origin = _Origin(source, row, id_, self._goals.number(id_), before + row.number)
                self._note_split(origin)
                yield origin

    def _told(self, place: int) -> str:
        return f"{self._sources[place >> _ROW_BITS].source.label}:{place % (1 << _ROW_BITS)}"

    def _note_split(self, origin: _Origin) -> None:
        split = origin.row.split
        if split is not None and (other := self._goals.note_split(origin.goal, split, origin.place)):
            problem = f"its goal has the split {split} here and {other[0]} in {self._told(other[1])}"
            raise InputError(problem, file=origin.source.source.label, row=origin.row.number)

    def _add_plain_goal(self, origin: _Origin, *, there: bool) -> None:
        source, messages = origin.source.source, self._plain(origin.row)
        if there:
            origin.source.duplicates["safe"] += 1
        else:
            self._add(origin, "safe", messages, answer=origin.row.answer)
        if source.wrapper:
            wrapped = wrap_conversation(source.wrapper, messages)
            self._add(origin, "unsafe", wrapped, attack=source.attack or source.wrapper)

    def _check_harmless(self, origin: _Origin) -> None:
        """The model would learn to help with a goal that it shall refuse."""
        turns = [turn["content"] for turn in origin.row.messages if turn["role"] == "user"]
        asked = (origin.goal_id, *map(goal_id, turns))
        if (
            there := next((place for place in map(self._goals.attacked, asked) if place is not None), None)
        ) is not None:
            told = self._told(there)
            problem = f"is to be helped with, and is the goal of an attack in {told}; take it out of one of the two"
            raise InputError(problem, file=origin.source.source.label, row=origin.row.number)

    def _plain(self, row: Row) -> list[Message]:
        return with_system(row.messages, self._system) if row.messages else plain(row.goal, self._system)

    def _add(
        self,
        origin: _Origin,
        label: str,
        messages: list[Message],
        *,
        attack: str | None = None,
        answer: str | None = None,
        target: str | None = None,
    ) -> bool:
        id_ = prompt_id(messages)
        number = self._ids.number(int(id_, 16))
        if number < len(self._label):
            first = _LABELS[self._label[number]]
            origin.source.duplicates[label if first == label else f"{label}, there as {first}"] += 1
            return False
        row, category = origin.row, origin.row.category
        self._label.append(_LABELS.index(label))
        self._goal.append(origin.goal)
        harmful = label in ("safe", "unsafe")
        self._category.append(self._goals.note_prompt(origin.goal, category, harmful=harmful))
        origin.source.prompts[label] += 1
        ended = None if answer is None else row.ended
        target_ended = None if target is None else row.target_ended
        said = answer, ended, target, target_ended
        place, columns = self._told(origin.place), row.columns
        self._prompts.add(
            Prompt(id_, origin.goal_id, row.goal, label, attack, category, messages, *said, place, columns)
        )
        return True
