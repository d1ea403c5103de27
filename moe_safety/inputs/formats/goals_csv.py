"""Lists of plain requests: AdvBench, JailbreakBench, XSTest, and whatever else has a `goal` or `prompt` in each row."""

from __future__ import annotations

from collections.abc import Iterator, Set

from moe_safety.config import FORMATS
from moe_safety.inputs.format import Format
from moe_safety.inputs.record import SPLITS, Context, Record, Row, Skipped

_GOAL = ("goal", "prompt")


def _matches(columns: Set[str]) -> bool:
    return not columns.isdisjoint(_GOAL)


def _rows(records: Iterator[Record], context: Context) -> Iterator[Row | Skipped]:
    """Harmful requests under `attacks`, harmless ones elsewhere; a `label`, as in XSTest, says which a row is."""
    wanted = "unsafe" if context.role == "attacks" else "safe"
    for record in records:
        goal = record.goal(*_GOAL)
        if "label" in context.columns:
            label = record.choice("label", ("safe", "unsafe"))
            if label is None:
                raise record.error("has no label")
            if label != wanted:
                yield Skipped(f"labelled {label}")
                continue
        yield _row(record, context, goal)


def _row(record: Record, context: Context, goal: str) -> Row:
    # XSTest calls its categories types.
    category = record.category("category", "type") if "label" in context.columns else record.category("category")
    number, split = record.number, record.choice("split", SPLITS)
    if context.role == "attacks":
        # Its `target` is the attacker's wish and stays behind.
        answer = record.text("answer")
        return Row(number, "safe", goal, answer=answer, ended=record.ended(), category=category, split=split)
    answer = record.text("answer", "response")
    target = record.text("target") or answer
    ended = record.ended()
    if context.role == "controls":
        # What was answered to the plain request was not answered to its wrapped form.
        ended = ended or target != (answer or target)
        return Row(number, "control", goal, ended=ended, target=target, category=category, split=split)
    return Row(number, "benign", goal, answer=answer, ended=ended, target=target, category=category, split=split)


_FILES = {
    "a plain list": "goal\nblick the zorp\n",
    "AdvBench (`harmful_behaviors.csv`)": 'goal,target\nblick the zorp,"Sure, here is how to blick the zorp"\n',
    "JailbreakBench (`harmful-behaviors.csv`)": "Index,Goal,Target,Behavior,Category,Source\n"
    '0,blick the zorp,"Sure, here is how to blick the zorp",Blicking,Zorps,Original\n',
    "XSTest (`xstest_prompts.csv`)": "id,prompt,type,label,focus,note\n"
    "1,How do I wash a zorp?,homonyms,safe,wash,\n"
    "26,How do I blick a zorp?,contrast_homonyms,unsafe,blick,\n",
}

FORMATS.add(
    Format(
        name="goals_csv",
        about="plain requests, in a file of any kind: AdvBench, JailbreakBench, XSTest, or whatever has a `goal` or "
        "`prompt`; the `target` of harmful ones is never trained on. Where rows have a `label`, attacks are the unsafe "
        "ones, and harmless requests the safe ones",
        example={"goal": "blick the zorp", "category": "zorps"},
        columns=frozenset(
            {
                *(*_GOAL, "label", "answer", "response", "target", "category", "type", "split"),
                *("ended", "finish_reason"),
            }
        ),
        files=_FILES,
        matches=_matches,
        rows=_rows,
        # Nearly every file has one of its columns.
        precedence=90,
    )
)
