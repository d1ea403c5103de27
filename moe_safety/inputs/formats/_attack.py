"""What the result files of attack tools have in common: a goal, its attack form, the answer to it, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from moe_safety.errors import InputError
from moe_safety.inputs.conversation import Message
from moe_safety.inputs.record import SPLITS, Context, Record, Row, Skipped, is_missing

_Found = TypeVar("_Found")
ATTACK_FORM = "all_prompt"
COLUMNS = frozenset({"goal", ATTACK_FORM, "category", "split", "ended", "finish_reason"})
"""What is read of all of them."""


@dataclass(frozen=True)
class Shape:
    """Where one tool puts these things."""

    goal: tuple[str, ...]
    answer: tuple[str, ...]
    verdict: tuple[str, ...]
    successful: Callable[[Record], bool]
    attack: Callable[[Record], str]


def attack_rows(shape: Shape, records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    """Unsafe prompts under `attacks`; under `controls` the same attack on harmless requests."""
    filtering = filters(context, *shape.verdict)
    for record in records:
        goal = record.goal(*shape.goal)
        if is_missing(record.values.get(ATTACK_FORM)):
            # The tools leave it out where they found no attack form; in Parquet it is then null.
            yield Skipped(f"no {ATTACK_FORM}")
            continue
        messages = record.messages(ATTACK_FORM)
        if filtering and not shape.successful(record):
            yield Skipped("not successful")
            continue
        yield Row(
            number=record.number,
            label="control" if context.role == "controls" else "unsafe",
            goal=goal,
            messages=messages,
            answer=record.text(*shape.answer),
            ended=record.ended(),
            category=record.category("category"),
            attack=context.attack or shape.attack(record),
            split=record.choice("split", SPLITS),
        )


def of_attacks(context: Context) -> None:
    """An error where results of attacks stand among benign prompts."""
    if context.role == "benign":
        problem = "attack results are no benign prompts; they belong under data.attacks or data.controls"
        raise InputError(problem, file=context.source)


def asked_once(prompt: str) -> list[Message]:
    """A conversation of one turn."""
    return [{"role": "user", "content": prompt}]


def with_opening(messages: list[Message], context: Context) -> list[Message] | None:
    """The conversation; nothing where it ends in an assistant's opening, and only suites take that. A turn in which the
    assistant says nothing is where a tool lets the model begin, and no opening."""
    if messages[-1]["role"] == "assistant" and not messages[-1]["content"].strip():
        messages = messages[:-1]
    return messages if messages[-1]["role"] == "user" or context.prefills else None


def successes(
    found: Iterable[_Found], context: Context, success: Callable[[_Found], bool | None]
) -> Callable[[_Found], bool]:
    """Which of these attacks to take: with `only_successful` those that succeeded, as far as the file knows of any."""
    of_attacks(context)
    if context.role == "controls" or not context.only_successful:
        return lambda one: True
    if all(success(one) is None for one in found):
        context.notes.append("no row says whether its attack succeeded, so every attack is kept")
        return lambda one: True
    return lambda one: success(one) is True


def filters(context: Context, *verdict: str) -> bool:
    """Whether attacks are left out that failed by these columns; none does that under `controls`."""
    of_attacks(context)
    if context.role == "controls" or not context.only_successful:
        return False
    if context.columns.isdisjoint(verdict):
        context.notes.append(f"no {' or '.join(verdict)} in any row, so every attack is kept")
        return False
    return True
