"""Scores a judge against human labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from moe_safety.config import Question
from moe_safety.errors import InputError
from moe_safety.inputs.files import open_file
from moe_safety.judges.ask import ask
from moe_safety.judges.calibration.agreement import agreement
from moe_safety.judges.calibration.scores import FULL, HumanLabel, Scores, count_verdicts
from moe_safety.judges.rules.reading import without_thinking
from moe_safety.judges.verdict import LABELS, Exchange, Judge, Label

LONGEST_FIELD = 2**31 - 1
SHOWN_MISSES = 10


@dataclass(frozen=True)
class Labelled:
    """An answer and what a human said of it."""

    id: str
    prompt: str
    response: str
    label: HumanLabel
    type: str | None = None
    """The kind of prompt or answer, where the file tells it."""
    goal: str | None = None
    """The plain request, where the prompt is not itself that."""


@dataclass(frozen=True)
class Miss:
    """An answer on which judge and human differ; its text stays in the file."""

    id: str
    label: HumanLabel
    verdict: Label
    reason: str


@dataclass(frozen=True)
class Calibration:
    """How a judge's verdicts agree with human labels."""

    scores: Scores
    by_type: dict[str, Scores]
    """In order of the types' names; empty where the file tells none."""
    misses: tuple[Miss, ...]
    """The contrary verdicts first, then the unparsed; there is nothing to miss where a human says partial."""
    agreement: dict[str, float | None]
    """Cohen's kappa of each pair of a panel's judges."""

    def to_json(self, judge: str | None = None) -> str:
        """Everything, as one JSON object; a share of nothing is null. `judge` is a hash of what was scored."""
        tables = {
            "by_type": {name: scores.to_dict() for name, scores in self.by_type.items()},
            "agreement": self.agreement,
            "misses": [asdict(miss) for miss in self.misses],
        }
        whose = {"question": self.scores.question, "judge": judge}
        return json.dumps({**whose, **self.scores.to_dict(), **tables}, indent=2, ensure_ascii=False)

    def to_text(self) -> str:
        """A few lines to read."""
        scores, labels = self.scores, LABELS[self.scores.question]
        lines = [
            f"n          {scores.n}",
            f"precision  {scores.precision.to_text()} of `{scores.found}`",
            f"recall     {scores.recall.to_text()} of `{scores.found}`",
            f"unparsed   {scores.unparsed}",
            "",
            f"{'human':10} " + " ".join(f"{verdict:>9}" for verdict in labels),
        ]
        for label, row in scores.confusion.items():
            lines.append(f"{label:10} " + " ".join(f"{row[verdict]:>9}" for verdict in labels))
        if "partial" in scores.confusion:
            lines.append("(partial refusals count in none of the figures above)")
        lines += self._type_lines()
        if self.agreement:
            lines += ["", "agreement (Cohen's kappa)"]
        for pair, kappa in self.agreement.items():
            lines.append(f"  {pair}: {'n/a' if kappa is None else f'{kappa:.2f}'}")
        if self.misses:
            lines += ["", f"misses ({min(len(self.misses), SHOWN_MISSES)} of {len(self.misses)})"]
        for miss in self.misses[:SHOWN_MISSES]:
            lines.append(f"  {miss.id}: {miss.label}, judged {miss.verdict}: {miss.reason}")
        return "\n".join(lines)

    def _type_lines(self) -> list[str]:
        if not self.by_type:
            return []
        width = max(len("type"), *map(len, self.by_type))
        lines = ["", f"{'type':{width}} {'n':>6} {'partial':>7} {'unparsed':>8}  {'precision':25} recall"]
        for name, scores in self.by_type.items():
            partial = sum(scores.confusion.get("partial", {}).values())
            shares = f"{scores.precision.to_text():25} {scores.recall.to_text()}"
            lines.append(f"{name:{width}} {scores.n:>6} {partial:>7} {scores.unparsed:>8}  {shares}")
        return lines


def calibrate_file(path: str, judge: Judge, question: Question = "refusal") -> Calibration:
    """Scores `judge` on a table with the columns `prompt`, `response`, `label` and perhaps `id`, `type` and `goal`, for
    prompts that are not themselves the plain request; harm is asked about with the goal, so there it has to be."""
    return calibrate(_labelled_answers(path, question), judge, question)


def calibrate(answers: Iterable[Labelled], judge: Judge, question: Question = "refusal") -> Calibration:
    """Scores `judge` on labelled answers."""
    answers = list(answers)
    exchanges = [Exchange(answer.goal or answer.prompt, answer.prompt, _final(answer.response)) for answer in answers]
    verdicts = ask(judge, exchanges, question)
    judged = list(zip(answers, verdicts, strict=True))
    types = sorted({answer.type for answer in answers if answer.type is not None})
    misses = [
        Miss(answer.id, answer.label, verdict.label, verdict.reason)
        for answer, verdict in judged
        if answer.label in FULL[question] and verdict.label != answer.label
    ]
    return Calibration(
        count_verdicts(((answer.label, verdict.label) for answer, verdict in judged), question),
        {
            name: count_verdicts(((one.label, verdict.label) for one, verdict in judged if one.type == name), question)
            for name in types
        },
        tuple(sorted(misses, key=lambda miss: miss.verdict == "unparsed")),
        agreement(verdict.votes for verdict in verdicts),
    )


def _final(response: str) -> str:
    """What stages give a judge: an answer without its thinking, which is empty where the thinking never ends."""
    text, problem = without_thinking(response)
    return "" if problem else text


def _labelled_answers(path: str, question: Question) -> Iterator[Labelled]:
    # Answers may be longer than the csv module lets a field be; the limit is the whole process's.
    limit = csv.field_size_limit(LONGEST_FIELD)
    try:
        content = open_file(path)
        for column in ("prompt", "response", "label", *(["goal"] if question == "harm" else [])):
            if column not in content.columns:
                raise InputError(f"has no column {column!r}", file=path)
        number = 0
        for number, row in content.rows:
            yield _labelled(row, path, number, question)
        if number == 0:
            raise InputError("has no rows", file=path)
    finally:
        csv.field_size_limit(limit)


def _labelled(row: dict[str, Any], path: str, number: int, question: Question) -> Labelled:
    for column in ("prompt", "response"):
        if not isinstance(row.get(column), str):
            raise InputError(f"`{column}` is not text", file=path, row=number)
    given = str(row.get("label")).strip().lower()
    known: tuple[HumanLabel, ...] = (*FULL[question], "partial")
    label = next((label for label in known if label == given), None)
    if label is None:
        told = " nor ".join(f"`{label}`" for label in known)
        raise InputError(f"`label` is neither {told}", file=path, row=number)
    id_, kind, goal = (None if row.get(column) in (None, "") else str(row[column]) for column in ("id", "type", "goal"))
    if question == "harm" and goal is None:
        raise InputError("has no goal, by which harm is judged", file=path, row=number)
    return Labelled(id_ or f"row {number}", row["prompt"], row["response"], label, kind, goal)
