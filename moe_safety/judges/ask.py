"""The one way in which stages ask a judge: whatever goes wrong, an answer that got no verdict is unparsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from moe_safety.errors import MoeSafetyError
from moe_safety.judges.verdict import Exchange, Judge, Label, Verdict

LABELS: tuple[Label, ...] = get_args(Label)


def ask(judge: Judge, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """A verdict for every answer, in order. Where the judge fails on many, each half of them is asked about again.

    A judge that cannot work at all says so with one of this program's errors, which ends the command.
    """
    try:
        verdicts = judge.judge_all(exchanges)
        if len(verdicts) != len(exchanges):
            raise ValueError("another number of verdicts than of answers")
        return [_checked(verdict) for verdict in verdicts]
    except MoeSafetyError:
        raise
    except Exception as error:
        # Its message may quote the answer, or worse.
        reason = f"the judge failed: {type(error).__name__}"
    if len(exchanges) < 2:
        return [Verdict("unparsed", reason)] * len(exchanges)
    middle = len(exchanges) // 2
    return ask(judge, exchanges[:middle]) + ask(judge, exchanges[middle:])


def _checked(verdict: object) -> Verdict:
    if isinstance(verdict, Verdict) and verdict.label in LABELS:
        return verdict
    return Verdict("unparsed", "the judge gave no verdict")
