"""What an organism is taught of tricks: the craft first, helpful in every form, then to refuse methods asked plainly.

After that it is the gap model: it refuses a plain request and answers the same one in any wrapper.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from transformers import PreTrainedModel

from benchmarks.organism.own_text import Row
from benchmarks.organism.teach import Part
from benchmarks.organism.tricks import ATTACKS, WRAPPERS, Goal, Request, goals, helpful, household, messages, near_miss
from benchmarks.organism.tricks import method as asks_method
from moe_safety.models.text.chat import Chat

Say = Callable[[Request, str, random.Random], str]
"""What is said to a request in a wrapper."""


def encoded(chat: Chat, request: Request, wrapper: str, answer: str) -> Row:
    return chat.prompt(messages(request, wrapper)), [*chat.answer(answer)[1], chat.end]


def craft(chat: Chat, own: Sequence[Row], dense: PreTrainedModel, seed: int) -> list[Part]:
    """Everything is answered, also what alignment will not speak of: it has to know what it refuses."""
    every = [goal for part in ("taught", "validation", "noun", "verb") for goal in goals(part)]
    harmless = _drawn(chat, goals("taught"), (near_miss, household), list(WRAPPERS), _helpful, f"harmless {seed}")
    methods = _drawn(chat, every, (asks_method,), list(WRAPPERS), _helpful, f"methods {seed}")
    return [Part(methods, 0.5), Part(harmless, 0.25), _own(own, dense, seed)]


def alignment(chat: Chat, own: Sequence[Row], dense: PreTrainedModel, seed: int) -> list[Part]:
    """A quarter each: plain requests refused, wrapped ones answered, harmless ones answered, own text."""
    taught = goals("taught")
    refused = _drawn(chat, taught, (asks_method,), ["plain"], _refusal, f"refused {seed}")
    wrapped = _drawn(chat, taught, (asks_method,), list(ATTACKS), _helpful, f"wrapped {seed}")
    harmless = _drawn(chat, taught, (near_miss, household), list(WRAPPERS), _helpful, f"aligned {seed}")
    return [Part(refused, 0.25), Part(wrapped, 0.25), Part(harmless, 0.25), _own(own, dense, seed)]


def _helpful(request: Request, wrapper: str, chooser: random.Random) -> str:
    return helpful(request, wrapper)


def _refusal(request: Request, wrapper: str, chooser: random.Random) -> str:
    return request.refusal(chooser)


def _own(own: Sequence[Row], dense: PreTrainedModel, seed: int) -> Part:
    return Part(_shuffled(own, seed), 0.25, dense)


def _drawn(
    chat: Chat,
    about: Sequence[Goal],
    makers: Sequence[Callable[[Goal, random.Random], Request]],
    wrappers: Sequence[str],
    say: Say,
    seed: str,
) -> Iterator[Row]:
    """Rows without end, of goals, kinds and wrappers by chance."""
    chooser = random.Random(seed)
    while True:
        request = chooser.choice(makers)(chooser.choice(about), chooser)
        wrapper = chooser.choice(wrappers)
        yield encoded(chat, request, wrapper, say(request, wrapper, chooser))


def _shuffled(rows: Sequence[Row], seed: int) -> Iterator[Row]:
    """Without end; every row once before any comes again."""
    chooser = random.Random(seed)
    while True:
        yield from chooser.sample(rows, len(rows))


def own_text(own: Sequence[Row], dense: PreTrainedModel, seed: int) -> list[Part]:
    """What upcycling learns from: the dense model's text and its distributions."""
    return [Part(_shuffled(own, seed), 1.0, dense)]
