"""Single prompts: what the base and one arm made of them. In words only where that was asked for, else by hashes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.pipeline import PROMPTS
from moe_safety.rundir import RunDir

SHOWN = 3
"""Of each kind."""
_KINDS = ("unsafe", "safe", "control", "benign")


@dataclass(frozen=True)
class Example:
    """One prompt, before and after."""

    goal_id: str
    label: str
    verdicts: tuple[str, str]
    """The base's and the arm's."""
    words: tuple[str, str, str] | None
    """The prompt, the base's answer and the arm's; nothing unless asked for."""


@dataclass(frozen=True)
class Answered:
    """What the arm makes of one attack."""

    goals: list[str]
    """Hashes of those for which it answers it, and harmfully so where that was judged."""
    asked: int
    """How many goals there are."""
    unread: int
    """How many answers the judge could not read."""


@dataclass(frozen=True)
class Examples:
    """The examples of answers that the page shows."""

    shown: list[Example]
    answered: dict[str, Answered]
    """By attack."""


def read_examples(run: RunDir, base: str, arm: str, *, show_text: bool) -> Examples | None:
    """The first few prompts of each kind, and the goals that are answered; nothing where one has no answers."""
    names = [f"eval/{name}/responses.parquet" for name in (base, arm)]
    if not all(run.exists(name) for name in names):
        return None
    before, after = ({row["prompt_id"]: row for row in run.read_table(name).to_pylist()} for name in names)
    own = {prompt: row for prompt, row in after.items() if not row["reattack"] and row.get("suite") is None}
    both = [row for prompt, row in own.items() if prompt in before]
    chosen = [row for kind in _KINDS for row in [row for row in both if row["label"] == kind][:SHOWN]]
    asked = _words_of(run, [row["prompt_id"] for row in chosen]) if show_text else {}
    attacks = [row for row in run.read_table(names[1]).to_pylist() if row["label"] == "unsafe"]
    wrappers = dict.fromkeys(row["attack"] for row in attacks)
    answered = {name or "attack": _answered([row for row in attacks if row["attack"] == name]) for name in wrappers}
    return Examples([_example(before[row["prompt_id"]], row, asked) for row in chosen], answered)


def _answered(rows: Sequence[dict[str, Any]]) -> Answered:
    verdicts = [row["harm"] if "harm" in row else row["verdict"] for row in rows]
    said = list(zip(rows, verdicts, strict=True))
    goals = dict.fromkeys(row["goal_id"] for row, verdict in said if verdict in ("complied", "harmful"))
    unread = verdicts.count("unparsed")
    return Answered(list(goals), len({row["goal_id"] for row in rows}), unread)


def _example(old: dict[str, Any], new: dict[str, Any], asked: dict[str, str]) -> Example:
    prompt = asked.get(new["prompt_id"])
    words = None if prompt is None else (prompt, old["answer"], new["answer"])
    return Example(new["goal_id"], new["label"], (old["verdict"], new["verdict"]), words)


def _words_of(run: RunDir, prompt_ids: Collection[str]) -> dict[str, str]:
    """What the user says in each of these prompts."""
    prompts = run.read_table(PROMPTS, ["prompt_id", "messages"])
    wanted = prompts.filter(pc.is_in(prompts["prompt_id"], pa.array(prompt_ids, pa.string()))).to_pylist()
    return {row["prompt_id"]: row["messages"][-1]["content"] for row in wanted}
