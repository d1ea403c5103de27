"""Judges say whether an answer refuses what was asked for, and whether it does the harm that was asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from moe_safety.config import JUDGES, JudgesConfig, JudgeSettings, Question, results_only
from moe_safety.judges.ask import ask
from moe_safety.judges.calibration.agreement import agreement, cohen_kappa
from moe_safety.judges.calibration.performance import Counted, Performance, read_performance
from moe_safety.judges.kind import JudgeKind
from moe_safety.judges.verdict import LABELS, TOO_LONG, Exchange, Judge, Verdict

__all__ = [
    "JUDGES",
    "LABELS",
    "TOO_LONG",
    "Counted",
    "Exchange",
    "Judge",
    "JudgeKind",
    "Performance",
    "Verdict",
    "agreement",
    "ask",
    "check_judge",
    "check_judges",
    "cohen_kappa",
    "judge_identity",
    "judge_inputs",
    "judges_inputs",
    "judges_settings",
    "make_judge",
    "performances",
]

REFUSAL = "judges.refusal"
_OF_HARM = "judges.harm"
_CALLED = {REFUSAL: "judge", _OF_HARM: "judge of harm"}


def make_judge(settings: JudgeSettings, key: str = REFUSAL) -> Judge:
    """The judge that a configuration names, ready to work; an error where it cannot. `key` is where its settings
    stand."""
    judge: Judge = JUDGES.get(settings.kind).make(settings, key)
    return judge


def check_judge(settings: JudgeSettings, key: str = REFUSAL) -> None:
    """What can be known of a judge before hours of work, without loading it: whether an endpoint has its key."""
    JUDGES.get(settings.kind).check(settings, key)


def check_judges(judges: JudgesConfig) -> None:
    """The same of all that are asked."""
    for question, settings in judges.asked.items():
        check_judge(settings, f"judges.{question}")


def judge_inputs(settings: JudgeSettings, key: str = REFUSAL) -> dict[str, str]:
    """What judges, by the judge's name: hashes of its model, which is fetched and found first, so that it fails early;
    the rules' version; and that of the package which brought it."""
    found = JUDGES.get(settings.kind).depends(settings, key)
    called = _CALLED.get(key, "judge")
    return {f"{called} {name}": digest for name, digest in found.items()} | JUDGES.identity(settings.kind)


def judges_inputs(judges: JudgesConfig) -> dict[str, str]:
    """The same of all that are asked, and of how well they agree with people."""
    from moe_safety.inputs.files import digest_of

    found = {name: digest for question, one in judges.asked.items() for name, digest in _inputs(one, question)}
    files = {f"calibration of {question}": digest_of(file) for question, file in judges.calibration.given.items()}
    return found | files


def _inputs(settings: JudgeSettings, question: Question) -> Iterable[tuple[str, str]]:
    return judge_inputs(settings, f"judges.{question}").items()


def judges_settings(judges: JudgesConfig) -> dict[str, Any]:
    """Their settings, as far as they decide verdicts."""
    return {question: results_only(settings) for question, settings in judges.asked.items()}


def judge_identity(settings: JudgeSettings, question: Question) -> str:
    """A hash of all that verdicts of a judge depend on."""
    told = [question, results_only(settings), judge_inputs(settings, f"judges.{question}")]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def performances(judges: JudgesConfig) -> dict[Question, Performance]:
    """How well judges agree with people, where the configuration says it; an error where that is another judge's."""
    return {
        question: read_performance(
            file, question, judge_identity(judges.asked[question], question), f"judges.calibration.{question}"
        )
        for question, file in judges.calibration.given.items()
    }


JUDGES.add_folder("moe_safety.judges.kinds")
