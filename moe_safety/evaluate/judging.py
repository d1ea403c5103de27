"""Who judges the answers of an examination, and the answers with their verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from moe_safety.config import Config, Question
from moe_safety.evaluate.prompts import EXAM_SCHEMA
from moe_safety.evaluate.suites import HARMFUL
from moe_safety.judges import (
    Exchange,
    Judge,
    Performance,
    Verdict,
    ask,
    check_judge,
    check_judges,
    judge_inputs,
    judges_inputs,
    make_judge,
    performances,
)

_TOO_LONG = "the prompt is longer than evaluate.max_length or the model's window"

RESPONSES_SCHEMA = pa.schema(
    [
        *(field for field in EXAM_SCHEMA if field.name != "messages"),
        ("sample", pa.int32()),
        ("answer", pa.string()),
        ("answer_tokens", pa.int32()),
        ("ended", pa.bool_()),
        ("thinking", pa.string()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("votes", pa.map_(pa.string(), pa.string())),
    ]
)
HARM_FIELDS = [
    pa.field("harm", pa.string()),
    pa.field("harm_grade", pa.float64()),
    pa.field("harm_reason", pa.string()),
    pa.field("harm_votes", pa.map_(pa.string(), pa.string())),
]
"""Of answers to harmful goals, where a judge of harm is configured; empty for harmless requests."""


@dataclass
class Judging:
    """The judges that a configuration names, its own and those of suites."""

    config: Config

    @cached_property
    def judges(self) -> dict[Question, Judge]:
        """The judges that are asked, by their question."""
        asked = self.config.judges.asked
        return {question: make_judge(settings, f"judges.{question}") for question, settings in asked.items()}

    @cached_property
    def of_suites(self) -> dict[str, dict[Question, Judge]]:
        """The judges that suites have of their own."""
        return {
            suite.name: {question: make_judge(one, _key_of(place, question)) for question, one in suite.judges.items()}
            for place, suite in enumerate(self.config.evaluate.suites)
            if suite.judges
        }

    @cached_property
    def performances(self) -> dict[Question, Performance]:
        """How well they agree with people, as far as that was measured."""
        return performances(self.config.judges)

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Hashes of what verdicts hang on."""
        found = judges_inputs(self.config.judges)
        for place, suite in enumerate(self.config.evaluate.suites):
            for question, settings in suite.judges.items():
                own = judge_inputs(settings, _key_of(place, question))
                found |= {f"{suite.name}, {question}: {name}": digest for name, digest in own.items()}
        return found

    def check(self) -> None:
        """What can be known of the judges before hours of work."""
        check_judges(self.config.judges)
        for place, suite in enumerate(self.config.evaluate.suites):
            for question, settings in suite.judges.items():
                check_judge(settings, _key_of(place, question))
        _ = self.performances

    def judged(self, rows: Sequence[dict[str, Any]], asked: Sequence[dict[str, Any]]) -> pa.Table:
        """The rows with verdicts; those that were not `asked`, being too long, are among them, unparsed."""
        for row, verdict in zip(asked, self._verdicts("refusal", asked), strict=True):
            row |= {"verdict": verdict.label, "reason": verdict.reason, "votes": verdict.votes or None}
        if "harm" not in self.judges:
            return pa.Table.from_pylist(rows, schema=RESPONSES_SCHEMA)
        harmful = [row for row in rows if row["label"] in HARMFUL]
        judged = [row for row in asked if row["label"] in HARMFUL]
        for row in harmful:
            row |= {"harm": "unparsed", "harm_reason": _TOO_LONG}
        for row, verdict in zip(judged, self._verdicts("harm", judged), strict=True):
            row |= {"harm": verdict.label, "harm_grade": verdict.grade}
            row |= {"harm_reason": verdict.reason, "harm_votes": verdict.votes or None}
        return pa.Table.from_pylist(rows, schema=pa.schema([*RESPONSES_SCHEMA, *HARM_FIELDS]))

    def _verdicts(self, question: Question, rows: Sequence[dict[str, Any]]) -> list[Verdict]:
        """In the order of the rows; those of a suite with a judge of its own are its."""
        found: dict[int, Verdict] = {}
        for suite in (None, *self.of_suites):
            judge = self.of_suites.get(suite, {}).get(question) if suite else self.judges[question]
            own = [place for place, row in enumerate(rows) if self._judged_by(question, row["suite"]) == suite]
            if judge and own:
                verdicts = ask(judge, [Exchange.of(rows[place]) for place in own], question)
                found |= dict(zip(own, verdicts, strict=True))
        return [found[place] for place in range(len(rows))]

    def _judged_by(self, question: Question, suite: str | None) -> str | None:
        """The suite whose own judge is asked; nothing where it is the run's."""
        return suite if suite in self.of_suites and question in self.of_suites[suite] else None


def _key_of(place: int, question: Question) -> str:
    """Where the settings of a suite's judge stand."""
    return f"evaluate.suites.{place}.{question}"


def said(answer: dict[str, Any] | None) -> dict[str, Any]:
    """What a model said. A prompt that is too long for it got no answer: it stays among the others, or the longest
    attacks would vanish."""
    if answer is None:
        return {"answer": "", "answer_tokens": 0, "ended": False, "verdict": "unparsed", "reason": _TOO_LONG}
    said = {name: answer[name] for name in ("answer", "ended", "thinking")}
    return said | {"answer_tokens": len(answer["answer_tokens"])}
