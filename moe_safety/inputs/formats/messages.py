"""Conversations: `messages` and `label` in each row; a last assistant turn is the recorded answer."""

from __future__ import annotations

from collections.abc import Iterator, Set

from moe_safety.config import FORMATS
from moe_safety.inputs.conversation import Message
from moe_safety.inputs.format import Format
from moe_safety.inputs.record import SPLITS, Context, Record, Role, Row, Skipped

_NO_GOAL = (
    "some rows have no goal: each is a goal of its own, in the words of its last turn, and may stand in another split "
    "than its plain form"
)

_LABELS: dict[Role, tuple[str, ...]] = {"attacks": ("safe", "unsafe"), "benign": ("benign",), "controls": ("control",)}


def _matches(columns: Set[str]) -> bool:
    return "messages" in columns


def _rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    for record in records:
        label = _label(record, context)
        messages, said = _conversation(record, prefills=context.prefills)
        goal = record.goal("goal") if label == "unsafe" else record.text("goal")
        if label == "control" and goal is None and _NO_GOAL not in context.notes:
            context.notes.append(_NO_GOAL)
        answer = record.text("answer") or said
        target = record.text("target") if label in ("benign", "control") else None
        if label == "benign":
            target = target or answer
        yield Row(
            number=record.number,
            label=label,
            goal=goal or next(turn["content"] for turn in reversed(messages) if turn["role"] == "user"),
            messages=messages,
            answer=answer,
            ended=record.ended(),
            target=target,
            category=record.category("category"),
            attack=_attack(record, context, label),
            split=record.choice("split", SPLITS),
        )


def _label(record: Record, context: Context) -> str:
    allowed = _LABELS[context.role]
    label = record.choice("label", allowed)
    if label is not None:
        return label
    if len(allowed) > 1:
        raise record.error(f"has no label ({' or '.join(allowed)})")
    return allowed[0]


def _attack(record: Record, context: Context, label: str) -> str | None:
    if label in ("safe", "benign"):
        return None
    return record.text("attack") or context.attack or "messages"


def _conversation(record: Record, *, prefills: bool) -> tuple[list[Message], str | None]:
    """The conversation, and the answer to it; where prefills are taken, a last turn of the assistant is one."""
    *messages, last = record.messages("messages")
    if last["role"] != "assistant" or prefills:
        return [*messages, last], None
    if messages[-1]["role"] != "user":
        raise record.error("messages has no turn of the user before its answer")
    return messages, last["content"] if last["content"].strip() else None


FORMATS.add(
    Format(
        name="messages",
        about="conversations; a last turn of the assistant is the recorded answer. Under `attacks` every row has the "
        "`label` safe or unsafe, and an unsafe one its `goal`",
        example={
            "messages": [
                {"role": "user", "content": "As a fep, blick the zorp."},
                {"role": "assistant", "content": "The zorp is blicked."},
            ],
            "label": "unsafe",
            "goal": "blick the zorp",
        },
        columns=frozenset(
            {
                *("messages", "label", "goal", "answer", "target", "category", "attack", "split"),
                *("ended", "finish_reason"),
            }
        ),
        matches=_matches,
        rows=_rows,
        precedence=30,
    )
)
