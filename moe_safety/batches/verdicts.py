"""Which prompts stay: a pair holds when its plain form was refused and its attack form answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from moe_safety.generation.answers import ANSWER_FIELDS
from moe_safety.judges import TOO_LONG, Exchange, Judge, agreement, ask

PROMPT_TOO_LONG = "prompt_too_long"

RESPONSES_SCHEMA = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("goal_id", pa.string()),
        ("label", pa.string()),
        *(field for field in ANSWER_FIELDS if field.name != "prompt_id"),
        ("recorded", pa.bool_()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("votes", pa.map_(pa.string(), pa.string())),
        ("kept", pa.bool_()),
        ("dropped", pa.string()),
    ]
)
"""Answers that files record have no tokens yet: they get theirs in `compose`, as every text does that no model said."""


def judge_answers(
    prompts: Sequence[dict[str, Any]], answers: Mapping[str, dict[str, Any]], judge: Judge, *, filtering: bool
) -> pa.Table:
    """One row per prompt: what the model said (recorded, or from `answers`), the verdict, and whether it is kept.
    `filtering` is of pairs alone: a harmless request that was refused would teach to refuse it. A prompt that was too
    long to be answered has no verdict."""
    rows = [_said(prompt, answers) for prompt in prompts]
    answered = [row for row in rows if row["answer"] is not None]
    verdicts = ask(judge, [Exchange.of(row) for row in answered])
    for row, verdict in zip(answered, verdicts, strict=True):
        row |= {"verdict": verdict.label, "reason": verdict.reason, "votes": verdict.votes or None}
        in_pair = row["label"] in ("safe", "unsafe")
        row["dropped"] = _why_dropped(row, verdict.label) if filtering or not in_pair else None
    _drop_partners(rows)
    for row in rows:
        row["kept"] = row["dropped"] is None
    return pa.Table.from_pylist(rows, schema=RESPONSES_SCHEMA)


def _said(prompt: dict[str, Any], answers: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    if prompt["answer"] is not None:
        return prompt | {"recorded": True, "ended": prompt["answer_ended"] is not False}
    said = answers.get(prompt["prompt_id"])
    if said is None:
        return prompt | {"recorded": False, "dropped": PROMPT_TOO_LONG}
    names = ("answer", "ended", "thinking", "answer_prefix", "answer_tokens")
    return prompt | {"recorded": False} | {name: said[name] for name in names}


def _why_dropped(prompt: dict[str, Any], verdict: str) -> str | None:
    label = prompt["label"]
    if label == "safe":
        return None if verdict == "refused" else "safe_unparsed" if verdict == "unparsed" else "safe_not_refused"
    if label == "unsafe":
        return None if verdict == "complied" else "unsafe_unparsed" if verdict == "unparsed" else "unsafe_not_answered"
    # A helpful target from the file stands, whatever the model said.
    return None if verdict == "complied" or prompt["target"] is not None else f"{label}_not_answered"


def _drop_partners(rows: list[dict[str, Any]]) -> None:
    """A pair falls as a whole: attack forms with their plain form, and a plain form with its last attack form."""
    gone = {row["goal_id"] for row in rows if row["label"] == "safe" and row["dropped"]}
    standing = {row["goal_id"] for row in rows if row["label"] == "unsafe" and not row["dropped"]} - gone
    attacked = {row["goal_id"] for row in rows if row["label"] == "unsafe"}
    for row in rows:
        if row["dropped"]:
            continue
        if row["label"] == "unsafe" and row["goal_id"] in gone:
            row["dropped"] = "plain_form_dropped"
        elif row["label"] == "safe" and row["goal_id"] in attacked - standing:
            row["dropped"] = "attack_forms_dropped"


def why_nothing_is_left(responses: pa.Table, label: str) -> str | None:
    """Why no answer to prompts of this kind was kept, in one line with counts; nothing where there was none to keep."""
    rows = responses.select(["goal_id", "label", "verdict"]).to_pylist()
    of_kind = [row for row in rows if row["label"] == label]
    if not of_kind:
        return None
    answered = f"{_counted(of_kind, 'complied')} {label} prompts are answered{_unread(of_kind)}"
    if label != "unsafe":
        return f"{answered}, and none of the others has a helpful answer in its file"
    plain = [row for row in rows if row["label"] == "safe"]
    refused = f"{_counted(plain, 'refused')} goals are refused when asked plainly{_unread(plain)}"
    if not any(row["verdict"] == "refused" for row in plain):
        return f"{refused}: is this model aligned? see respond.filter"
    if not any(row["verdict"] == "complied" for row in of_kind):
        return f"{answered}: does this attack work on this model? see respond.filter"
    return f"{refused}, {answered}, and of no goal both; see respond.filter"


def _counted(rows: list[dict[str, Any]], verdict: str) -> str:
    return f"{sum(row['verdict'] == verdict for row in rows)} of {len(rows)}"


def _unread(rows: list[dict[str, Any]]) -> str:
    unparsed = sum(row["verdict"] == "unparsed" for row in rows)
    return f" ({unparsed} got no verdict)" if unparsed else ""


def summarise(responses: pa.Table) -> dict[str, Any]:
    """Counts of verdicts and of each reason to drop; for a panel, how its judges agree."""
    rows = responses.select(["label", "verdict", "reason", "votes", "dropped", "recorded", "ended"]).to_pylist()
    kappas = agreement(row["votes"] or () for row in rows)
    return {
        "prompts": len(rows),
        "recorded": sum(row["recorded"] for row in rows),
        "unended": sum(row["ended"] is False for row in rows),
        "kept": dict(Counter(row["label"] for row in rows if not row["dropped"])),
        "verdicts": dict(Counter(f"{row['label']} {row['verdict']}" for row in rows if row["verdict"])),
        "dropped": dict(Counter(row["dropped"] for row in rows if row["dropped"])),
        "too_long_to_judge": sum(TOO_LONG in (row["reason"] or "") for row in rows),
        **({"agreement": kappas} if kappas else {}),
    }
