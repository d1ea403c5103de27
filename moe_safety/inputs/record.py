"""A row on its way in: `Record` as the file has it, `Row` as a format understands it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal

from moe_safety.errors import InputError
from moe_safety.inputs.conversation import Message

Role = Literal["attacks", "benign", "controls"]
"""Under which key of `data` a source stands."""

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_CUT_SHORT = ("length", "max_tokens", "max_new_tokens", "max_output_tokens")
"""What tools write as the reason why an answer stopped when it ran into a limit."""

_SHORT = 100
"""Characters of a column that may be kept without being read."""

ROLES_OF_TURNS = ("system", "user", "assistant")

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of a source. Without `messages` it is its goal, asked plainly."""

    number: int
    label: str
    goal: str
    messages: list[Message] = field(default_factory=list)
    answer: str | None = None
    ended: bool = True
    """Whether the answer came to its end, and did not run into a limit; of a row without one, the target."""
    target: str | None = None
    category: str | None = None
    attack: str | None = None
    split: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """What else its record has that batches can be grouped by."""

    @property
    def target_ended(self) -> bool:
        """Whether the target came to its end: one in words of its own did, whatever became of the answer."""
        return self.ended or self.answer not in (None, self.target)

    @property
    def plain(self) -> bool:
        """Whether a wrapper can still be put around it."""
        return self.label == "safe" or not self.messages


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is left out, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a format may want to know about the source whose rows it reads."""

    source: str
    role: Role
    columns: frozenset[str]
    attack: str | None = None
    only_successful: bool = False
    goals: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    """Goals and categories by their ids, where a file names them so."""
    prefills: bool = False
    """Whether a conversation may end in an assistant's opening, from which the answer goes on."""
    notes: list[str] = field(default_factory=list)
    """What the user shall be told about this source; formats append to it."""

    @property
    def attack_label(self) -> str:
        """What an attack form is here: under `controls` its request is harmless."""
        return "control" if self.role == "controls" else "unsafe"


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it was read, its columns under this program's names; every reading of a column checks it."""

    source: str
    number: int
    values: dict[str, Any]

    def error(self, message: str) -> InputError:
        """The error that names this row."""
        return InputError(message, file=self.source, row=self.number)

    def text(self, *names: str) -> str | None:
        """The first of these columns that is not blank."""
        for name in names:
            value = self.values.get(name)
            if is_missing(value):
                continue
            if not isinstance(value, str):
                raise self.error(f"{name} is {_kind(value)}, not text")
            if value.strip():
                return self._unicode(name, value)
        return None

    def goal(self, *names: str) -> str:
        """The goal, which no row may lack."""
        goal = self.text(*names)
        if goal is None:
            raise self.error(f"a row without a goal (no {' or '.join(names)})")
        return goal

    def needed(self, name: str) -> str:
        """A column that no row may lack."""
        value = self.text(name)
        if value is None:
            raise self.error(f"has no {name}")
        return value

    def further(self, known: Set[str]) -> dict[str, str]:
        """The short columns that are none of the known ones, as text."""
        others = {name: value for name, value in self.values.items() if name not in known and not is_missing(value)}
        told = {name: str(value).strip() for name, value in others.items() if isinstance(value, (str, int, float))}
        return {name: value for name, value in told.items() if 0 < len(value) <= _SHORT and value.isprintable()}

    def choice(self, name: str, allowed: Sequence[str]) -> str | None:
        """A column that says one of a few words."""
        value = self.text(name)
        if value is None:
            return None
        word = value.strip().lower()
        if word not in allowed:
            raise self.error(f"{name} is {value[:30]!r}; here it can be {' or '.join(allowed)}")
        return word

    def ended(self) -> bool:
        """Whether the recorded answer came to its end: it did, unless `ended` or `finish_reason` says otherwise."""
        value = self.values.get("ended")
        if not is_missing(value) and str(value).strip():
            word = str(value).strip().lower()
            if word not in _TRUTH:
                raise self.error(f"ended is {word[:30]!r}, not true or false")
            return _TRUTH[word]
        reason = self.text("finish_reason")
        return reason is None or reason.strip().lower() not in _CUT_SHORT

    def category(self, *names: str) -> str | None:
        """The category, which some files give as a number."""
        for name in names:
            value = self.values.get(name)
            if isinstance(value, int):
                return str(value)
        return self.text(*names)

    def messages(self, name: str) -> list[Message]:
        """A conversation: perhaps a system message, then turns, at least one of them the user's."""
        turns = self.values.get(name)
        if not isinstance(turns, list):
            raise self.error(f"{name} is {_kind(turns)}, not a list of messages")
        if not turns:
            raise self.error(f"{name} is empty")
        messages = [self._message(name, turn) for turn in turns]
        if any(message["role"] == "system" for message in messages[1:]):
            raise self.error(f"{name} has a system message after the first place")
        if not any(message["role"] == "user" and message["content"].strip() for message in messages):
            raise self.error(f"{name} has no turn of the user")
        return messages

    def _message(self, name: str, turn: object) -> Message:
        if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys():
            raise self.error(f"{name} is not a list of messages with role and content")
        role, content = turn["role"], turn["content"]
        if role not in ROLES_OF_TURNS:
            raise self.error(f"{name} has the unknown role {str(role)[:30]!r}; known are {', '.join(ROLES_OF_TURNS)}")
        if not isinstance(content, str):
            raise self.error(f"{name} has a message whose content is {_kind(content)}, not text")
        return {"role": role, "content": self._unicode(name, content)}

    def _unicode(self, name: str, text: str) -> str:
        """JSON can spell half a surrogate pair, which no UTF-8 file can hold."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self.error(f"{name} holds half a surrogate pair, which is not valid Unicode") from None
        return text


def is_missing(value: object) -> bool:
    """Whether a cell is empty: null, or the NaN that pandas writes for it."""
    return value is None or value != value


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"
