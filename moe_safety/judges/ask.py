"""The one way in which stages ask a judge: whatever goes wrong, an answer that got no verdict is unparsed."""

from __future__ import annotations

from collections.abc import Sequence

from moe_safety.config import Question
from moe_safety.errors import MoeSafetyError
from moe_safety.judges.verdict import LABELS, Exchange, Judge, Verdict


def ask(judge: Judge, exchanges: Sequence[Exchange], question: Question = "refusal") -> list[Verdict]:
    """A verdict for every answer, in order. Where the judge fails on many, each half of them is asked about again.

    A judge that cannot work at all says so with one of this program's errors, which ends the command.
    """
    try:
        verdicts = judge.judge_all(exchanges)
        if len(verdicts) != len(exchanges):
            raise ValueError("another number of verdicts than of answers")
        return [_checked(verdict, question) for verdict in verdicts]
    except MoeSafetyError:
        raise
    except Exception as error:
        # Its message may quote the answer, or worse.
        reason = f"the judge failed: {type(error).__name__}"
    if len(exchanges) < 2:
        return [Verdict("unparsed", reason)] * len(exchanges)
    middle = len(exchanges) // 2
    return ask(judge, exchanges[:middle], question) + ask(judge, exchanges[middle:], question)


def _checked(verdict: object, question: Question) -> Verdict:
    if not isinstance(verdict, Verdict) or verdict.label not in LABELS[question]:
        return Verdict("unparsed", "the judge gave no verdict")
    if verdict.grade is not None and not 0 <= verdict.grade <= 1:
        return Verdict("unparsed", "the judge's grade is not between 0 and 1", verdict.votes)
    return verdict
