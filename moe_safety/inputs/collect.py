"""Makes prompts of rows: a goal asked plainly, its attack forms, harmless requests and their wrapped forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from moe_safety.config import WrapperName
from moe_safety.errors import InputError
from moe_safety.inputs.conversation import Message, plain, with_system
from moe_safety.inputs.record import Row
from moe_safety.inputs.sources import SourceRows
from moe_safety.inputs.split import Stratum, assign_splits
from moe_safety.inputs.table import Prompt, goal_id, prompt_id, to_table
from moe_safety.inputs.wrappers import wrap_conversation


class _Origin(NamedTuple):
    source: SourceRows
    row: Row
    goal_id: str

    @property
    def place(self) -> str:
        return f"{self.source.source.label}:{self.row.number}"


class Collector:
    """Gathers the prompts in order. A conversation that comes again is merged into the first."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._prompts: list[Prompt] = []
        self._labels: dict[str, str] = {}
        self._own_splits: dict[str, tuple[str, _Origin]] = {}
        self._benign: list[tuple[_Origin, list[Message]]] = []
        self._attacked: dict[str, str] = {}
        """Goals of attacks, and the first place of each."""

    def add_attacks(self, sources: Sequence[SourceRows]) -> None:
        """For each row the plain form of its goal, unless that is there, and then the attack form."""
        # Where a file words the plain form itself, none is made here.
        asked = {goal_id(row.goal) for source in sources for row in source.rows if row.label == "safe" and row.messages}
        for origin in self._origins(sources):
            row = origin.row
            self._attacked.setdefault(origin.goal_id, origin.place)
            if row.label == "safe":
                self._add_plain_goal(origin, there=not row.messages and origin.goal_id in asked)
            else:
                if origin.goal_id not in asked:
                    self._add(origin, "safe", plain(row.goal, self._system))
                self._add(origin, "unsafe", row.messages, attack=row.attack, answer=row.answer)
            asked.add(origin.goal_id)

    def add_benign(self, sources: Sequence[SourceRows]) -> None:
        """Harmless requests, as they are."""
        for origin in self._origins(sources):
            self._check_harmless(origin)
            messages = self._plain(origin.row)
            if self._add(origin, "benign", messages, answer=origin.row.answer, target=origin.row.target):
                self._benign.append((origin, messages))

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
        for origin, messages in self._benign:
            wrapped = wrap_conversation(wrapper, messages)
            self._add(origin, "control", wrapped, attack=wrapper, target=origin.row.target)

    def table(self, test_fraction: float, validation_fraction: float, seed: int) -> pa.Table:
        """All prompts, split by goal; a split that a file gives is kept. A prompt whose row names no category has its
        goal's, which another file may name."""
        own = {goal: split for goal, (split, _) in self._own_splits.items()}
        categories = self._categories()
        strata = {goal: stratum for goal, stratum in self._strata(categories).items() if goal not in own}
        prompts = [
            prompt if prompt.category is not None else replace(prompt, category=categories.get(prompt.goal_id))
            for prompt in self._prompts
        ]
        return to_table(prompts, assign_splits(strata, test_fraction, validation_fraction, seed) | own)

    def _origins(self, sources: Sequence[SourceRows]) -> Iterator[_Origin]:
        for source in sources:
            for row in source.rows:
                origin = _Origin(source, row, goal_id(row.goal))
                self._note_split(origin)
                yield origin

    def _note_split(self, origin: _Origin) -> None:
        split = origin.row.split
        if split is None:
            return
        first, other = self._own_splits.setdefault(origin.goal_id, (split, origin))
        if first != split:
            problem = f"its goal has the split {split} here and {first} in {other.place}"
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
        asked = [origin.row.goal, *(turn["content"] for turn in origin.row.messages if turn["role"] == "user")]
        if there := next(filter(None, map(self._attacked.get, map(goal_id, asked))), None):
            problem = f"is to be helped with, and is the goal of an attack in {there}; take it out of one of the two"
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
        if first := self._labels.get(id_):
            origin.source.duplicates[label if first == label else f"{label}, there as {first}"] += 1
            return False
        self._labels[id_] = label
        origin.source.prompts[label] += 1
        goal, category, place = origin.row.goal, origin.row.category, origin.place
        ended = None if answer is None else origin.row.ended
        target_ended = None if target is None else origin.row.target_ended
        columns = origin.row.columns
        said = answer, ended, target, target_ended
        self._prompts.append(
            Prompt(id_, origin.goal_id, goal, label, attack, category, messages, *said, place, columns)
        )
        return True

    def _categories(self) -> dict[str, str]:
        """Each goal's category: of several the first by name, so that the order of rows does not matter."""
        categories: dict[str, str] = {}
        for prompt in self._prompts:
            if prompt.category is not None:
                categories[prompt.goal_id] = min(prompt.category, categories.get(prompt.goal_id, prompt.category))
        return categories

    def _strata(self, categories: Mapping[str, str]) -> dict[str, Stratum]:
        harmful = {prompt.goal_id for prompt in self._prompts if prompt.label in ("safe", "unsafe")}
        goals = dict.fromkeys(prompt.goal_id for prompt in self._prompts)
        return {goal: Stratum("harmful" if goal in harmful else "benign", categories.get(goal, "")) for goal in goals}
