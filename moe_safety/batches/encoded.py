"""Encoded rows: prompts, answers and targets as the model sees them. Whoever puts prompts together makes them, once;
every stage after it reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import pyarrow as pa

from moe_safety.errors import InputError
from moe_safety.generation.answers import TOKENS
from moe_safety.models.text import Chat, Limits, answer_span

ENCODED = [
    pa.field("prompt_tokens", TOKENS),
    pa.field("answer_prefix", TOKENS),
    pa.field("answer_tokens", TOKENS),
    pa.field("target_prefix", TOKENS),
    pa.field("target_tokens", TOKENS),
]
"""A row is the whole prompt, what stands between prompt and answer, and the span of the answer that counts; the same
for what it shall be answered with. Spans are empty where there is no answer or no target."""

TableRow = Mapping[str, Any]
_SPOKEN = ("answer", "target")
_AT_ONCE = 512
"""Rows that are encoded together."""


def in_parts(row: TableRow, chat: Chat) -> dict[str, Any]:
    """A row of prompts as stages read it: final text in `answer` and `target`, and apart, as `thinking`, what the file
    has of thinking before its answer."""
    found = [chat.split_text(row[name]) if row[name] else (None, row[name]) for name in _SPOKEN]
    (thinking, answer), (_, target) = found
    return {**row, "answer": answer, "thinking": thinking, "target": target}


@dataclass(frozen=True)
class Encoder:
    """Encodes rows, and says which of them are too long. None is cut but behind its answer's span."""

    chat: Chat
    max_length: int
    """Of a whole row: the configured length, or the model's window if that is less."""
    max_answer: int

    def __call__(self, row: TableRow) -> dict[str, list[int]]:
        """The row has `messages`, and what is known of `answer` and `target`: their final text (`in_parts`), whether
        they ended (`answer_ended`), and their tokens where the model itself said them (`answer_said`). A template that
        fails on it says on which, by its `source`."""
        return self._encoded([row])[0]

    def each(self, rows: Iterable[TableRow]) -> Iterator[dict[str, list[int]]]:
        """The same of many rows, in their order, some hundred at a time, which all processors share."""
        rest = iter(rows)
        while some := list(islice(rest, _AT_ONCE)):
            yield from self._encoded(some)

    def _encoded(self, rows: Sequence[TableRow]) -> list[dict[str, list[int]]]:
        prompts = self.chat.encode([self._rendered(row) for row in rows])
        spoken = ((row.get(name), row.get(f"{name}_said")) for row in rows for name in _SPOKEN)
        texts = list(dict.fromkeys(text for text, said in spoken if text and not said))
        known = dict(zip(texts, self.chat.answers(texts), strict=True)) if texts else {}
        encoded = []
        for row, prompt in zip(rows, prompts, strict=True):
            found = {"prompt_tokens": prompt}
            for name in _SPOKEN:
                prefix, tokens = self._spoken(row, name, known)
                found |= {f"{name}_prefix": prefix, f"{name}_tokens": tokens}
            encoded.append(found)
        return encoded

    def _rendered(self, row: TableRow) -> str:
        try:
            return self.chat.render(row["messages"])
        except InputError as error:
            file, _, number = (row.get("source") or "").rpartition(":")
            raise InputError(str(error), file=file or None, row=int(number) if number.isdigit() else None) from None

    def fits(self, encoded: Mapping[str, list[int]]) -> bool:
        """Whether the prompt and the longer of answer and target are no longer than a row may be."""
        longest = max(len(encoded[f"{name}_prefix"]) + len(encoded[f"{name}_tokens"]) for name in _SPOKEN)
        return len(encoded["prompt_tokens"]) + longest <= self.max_length

    def span(self, text: str) -> list[int]:
        """The span of a text that ended."""
        return answer_span(self.chat.answer(text)[1], ended=True, end=self.chat.end, at_most=self.max_answer)

    def _spoken(
        self, row: TableRow, name: str, known: Mapping[str, tuple[list[int], list[int]]]
    ) -> tuple[list[int], list[int]]:
        """The prefix and the span of the row's answer or target; `known` has the tokens of texts."""
        text, said = row.get(name), row.get(f"{name}_said")
        if said:
            # What the model thought belongs to what it said; what it shall say stands behind an empty thought.
            empty = self.chat.prefix if self.chat.frame.mark else []
            prefix, tokens = said["prefix"] if name == "answer" else empty, said["tokens"]
        elif text:
            prefix, tokens = known[text]
        else:
            return [], []
        ended = row.get(f"{name}_ended") is not False
        return list(prefix), answer_span(tokens, ended=ended, end=self.chat.end, at_most=self.max_answer)

    @cached_property
    def digest(self) -> str:
        """A hash of the tokenizer and its template: rows of another one mean nothing to a model."""
        return tokenizer_digest(self.chat)


def prompt_room(chat: Chat, max_length: int, window: int | None, said: Limits) -> int:
    """The longest prompt that leaves a model room for all that it may say."""
    if window is None:
        return max_length
    room = window - said.answer - (said.thinking if chat.frame.mark else 0)
    if room < 1:
        told = "max_new_tokens and max_thinking_tokens leave no room for a prompt"
        raise InputError(f"{told} in its window of {window} tokens", file=chat.tokenizer.name_or_path)
    return min(max_length, room)


def tokenizer_digest(chat: Chat) -> str:
    """A hash of what decides how messages become tokens."""
    tokenizer = chat.tokenizer
    decided = [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template, chat.settings]
    return hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()
