"""Exports of PyRIT's memory: a piece of a conversation in each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.config import FORMATS
from moe_safety.inputs.conversation import Message
from moe_safety.inputs.format import Format
from moe_safety.inputs.formats._attack import successes
from moe_safety.inputs.record import ROLES_OF_TURNS, Context, Record, Row, Skipped

_AS = {"simulated_assistant": "assistant", "developer": "system"}
"""Roles that PyRIT knows beside the usual ones."""


def _rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    conversations: dict[str, list[Record]] = {}
    for record in records:
        conversations.setdefault(record.needed("conversation_id"), []).append(record)
    takes = successes(conversations.values(), context, _success)
    for pieces in conversations.values():
        yield _row(sorted(pieces, key=_place), context) if takes(pieces) else Skipped("not successful")


def _place(piece: Record) -> tuple[int, int]:
    sequence = str(piece.values.get("sequence"))
    return int(sequence) if sequence.lstrip("-").isdigit() else 0, piece.number


def _row(pieces: list[Record], context: Context) -> Row | Skipped:
    first = pieces[0]
    if any(piece.text("role") == "tool" for piece in pieces):
        return Skipped("a turn of a tool")
    turns = [_turn(piece) for piece in pieces]
    # An answer that a filter blocked is none: what was asked stands all the same.
    is_text = [piece.values.get("converted_value_data_type", "text") == "text" for piece in pieces]
    said = turns.pop()["content"] if turns[-1]["role"] == "assistant" else ""
    answer = said if said.strip() and is_text[-1] else None
    if not all(is_text[: len(turns)]):
        return Skipped("not a text")
    if not any(turn["role"] == "user" for turn in turns):
        return Skipped("a conversation without a turn of the user")
    plain = Record(first.source, first.number, {"turns": turns})
    goal = _objective(pieces)
    if goal is None:
        told = "its conversation names no objective (a column `objective`, or that of a score), and no converter"
        raise first.error(f"{told} tells the plain request from what was sent")
    messages = plain.messages("turns")
    return Row(first.number, context.attack_label, goal, messages, answer, attack=context.attack or "pyrit")


def _turn(piece: Record) -> Message:
    piece.needed("role")
    role = piece.choice("role", (*ROLES_OF_TURNS, *_AS)) or ""
    return {"role": _AS.get(role, role), "content": piece.text("converted_value", "original_value") or ""}


def _objective(pieces: list[Record]) -> str | None:
    """What the conversation is after: as it says, as one of its scores says, or what stood there before a converter
    changed the only turn of the user."""
    named = [piece.text("objective", "goal") for piece in pieces]
    named += [_of_score(score) for piece in pieces for score in piece.values.get("scores") or []]
    if found := next(filter(None, named), None):
        return found
    asked = [piece for piece in pieces if piece.text("role") == "user"]
    before = asked[0].text("original_value") if len(asked) == 1 else None
    return before if before != (asked[0].text("converted_value") if asked else None) else None


def _success(pieces: list[Record]) -> bool | None:
    """Whether the attack reached its objective: by the `outcome` of its result, where that was put beside its pieces,
    or by any scorer that says true or false, but those of refusal. Nothing where none says."""
    named = [outcome for piece in pieces if (outcome := piece.text("outcome"))]
    if named:
        return named[0].lower() == "success" if named[0].lower() in ("success", "failure") else None
    scores = [score for piece in pieces for score in piece.values.get("scores") or [] if isinstance(score, dict)]
    said = [str(score.get("score_value")).lower() for score in scores if _is_of_success(score)]
    return "true" in said if said else None


def _is_of_success(score: dict[str, Any]) -> bool:
    scorer = str(score.get("scorer_class_identifier")).lower()
    return score.get("score_type") == "true_false" and "refusal" not in scorer


def _of_score(score: Any) -> str | None:
    found = (score.get("objective") or score.get("task")) if isinstance(score, dict) else None
    return found if isinstance(found, str) and found.strip() else None


FORMATS.add(
    Format(
        name="pyrit",
        about="exports of PyRIT's memory, a piece of a conversation in each row; the goal is the `objective` of the "
        "row or of a score, or what stood there before a converter changed the only turn. An attack succeeded where "
        "its `outcome`, if that stands beside its pieces, or a score of true or false says so",
        example={
            "conversation_id": "a1",
            "sequence": 0,
            "role": "user",
            "original_value": "blick the zorp",
            "converted_value": "zorp the blick",
            "converted_value_data_type": "text",
            "outcome": "success",
        },
        columns=frozenset(
            {
                *("conversation_id", "sequence", "role", "original_value", "converted_value", "objective", "goal"),
                *("converted_value_data_type", "scores", "outcome"),
            }
        ),
        matches=lambda columns: {"conversation_id", "role", "converted_value"} <= columns,
        rows=_rows,
        precedence=14,
    )
)
