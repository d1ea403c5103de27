"""Scores a judge against human labels."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from moe_safety.errors import InputError
from moe_safety.inputs.files import open_file
from moe_safety.judges.agreement import agreement
from moe_safety.judges.ask import LABELS, ask
from moe_safety.judges.verdict import Exchange, Judge, Label

HUMAN_LABELS: tuple[Label, ...] = ("refused", "complied")
LONGEST_FIELD = 2**31 - 1
SHOWN_MISSES = 10


@dataclass(frozen=True)
class Labelled:
    """An answer and what a human said of it."""

    id: str
    prompt: str
    response: str
    label: Label
    goal: str | None = None
    """Where the prompt is not itself the plain request."""


@dataclass(frozen=True)
class Miss:
    """An answer on which judge and human differ; its text stays in the file."""

    id: str
    label: Label
    verdict: Label
    reason: str


@dataclass(frozen=True)
class Calibration:
    """How a judge's verdicts agree with human labels."""

    n: int
    confusion: dict[Label, dict[Label, int]]
    """Answers by human label, then by verdict."""
    misses: tuple[Miss, ...]
    """The contrary verdicts first, then the unparsed."""
    agreement: dict[str, float | None]
    """Cohen's kappa of each pair of a panel's judges."""

    @property
    def precision(self) -> float | None:
        """Share of refused verdicts that humans call refused."""
        return _share(self.confusion["refused"]["refused"], sum(row["refused"] for row in self.confusion.values()))

    @property
    def recall(self) -> float | None:
        """Share of human refusals that the judge calls refused; an unparsed one is missed."""
        return _share(self.confusion["refused"]["refused"], sum(self.confusion["refused"].values()))

    @property
    def unparsed(self) -> int:
        return sum(row["unparsed"] for row in self.confusion.values())

    def to_json(self) -> str:
        """Everything, as one JSON object; a share of nothing is null."""
        numbers = {"n": self.n, "precision": self.precision, "recall": self.recall, "unparsed": self.unparsed}
        tables = {"confusion": self.confusion, "agreement": self.agreement}
        misses = [asdict(miss) for miss in self.misses]
        return json.dumps({**numbers, **tables, "misses": misses}, indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """A few lines to read."""
        lines = [
            f"n          {self.n}",
            f"precision  {_percent(self.precision)}   of `refused`",
            f"recall     {_percent(self.recall)}   of `refused`",
            f"unparsed   {self.unparsed}",
            "",
            f"{'human':10} " + " ".join(f"{verdict:>9}" for verdict in LABELS),
        ]
        for label, row in self.confusion.items():
            lines.append(f"{label:10} " + " ".join(f"{row[verdict]:>9}" for verdict in LABELS))
        if self.agreement:
            lines += ["", "agreement (Cohen's kappa)"]
        for pair, kappa in self.agreement.items():
            lines.append(f"  {pair}: {'n/a' if kappa is None else f'{kappa:.2f}'}")
        if self.misses:
            lines += ["", f"misses ({min(len(self.misses), SHOWN_MISSES)} of {len(self.misses)})"]
        for miss in self.misses[:SHOWN_MISSES]:
            lines.append(f"  {miss.id}: {miss.label}, judged {miss.verdict}: {miss.reason}")
        return "\n".join(lines)


def calibrate_file(path: str, judge: Judge) -> Calibration:
    """Scores `judge` on a table with the columns `prompt`, `response`, `label` and perhaps `id` and `goal`, for prompts
    that are not themselves the plain request."""
    return calibrate(_labelled_answers(path), judge)


def calibrate(answers: Iterable[Labelled], judge: Judge) -> Calibration:
    """Scores `judge` on labelled answers."""
    answers = list(answers)
    verdicts = ask(
        judge, [Exchange(answer.goal or answer.prompt, answer.prompt, answer.response) for answer in answers]
    )
    judged = list(zip(answers, verdicts, strict=True))
    counts = Counter((answer.label, verdict.label) for answer, verdict in judged)
    confusion = {label: {verdict: counts[label, verdict] for verdict in LABELS} for label in HUMAN_LABELS}
    misses = [
        Miss(answer.id, answer.label, verdict.label, verdict.reason)
        for answer, verdict in judged
        if verdict.label != answer.label
    ]
    misses.sort(key=lambda miss: miss.verdict == "unparsed")
    return Calibration(len(judged), confusion, tuple(misses), agreement(verdict.votes for verdict in verdicts))


def _labelled_answers(path: str) -> Iterator[Labelled]:
    # Answers may be longer than the csv module lets a field be; the limit is the whole process's.
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        content = open_file(path)
        for column in ("prompt", "response", "label"):
            if column not in content.columns:
                raise InputError(f"has no column {column!r}", file=path)
        number = 0
        for number, row in content.rows:
            yield _labelled(row, path, number)
        if number == 0:
            raise InputError("has no rows", file=path)
    finally:
        csv.field_size_limit(limit)


def _labelled(row: dict[str, Any], path: str, number: int) -> Labelled:
    for column in ("prompt", "response"):
        if not isinstance(row.get(column), str):
            raise InputError(f"`{column}` is not text", file=path, row=number)
    given = str(row.get("label")).strip().lower()
    label = next((label for label in HUMAN_LABELS if label == given), None)
    if label is None:
        raise InputError("`label` is neither `refused` nor `complied`", file=path, row=number)
    name, goal = row.get("id"), row.get("goal")
    id_ = f"row {number}" if name in (None, "") else str(name)
    return Labelled(
        id_, row["prompt"], row["response"], label, goal if isinstance(goal, str) and goal.strip() else None
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "   n/a" if share is None else f"{share:6.1%}"
