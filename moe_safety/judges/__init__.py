"""Judges say whether an answer refuses what was asked for."""

from __future__ import annotations

from moe_safety.config import JUDGES, JudgeSettings
from moe_safety.judges.ask import ask
from moe_safety.judges.calibration.agreement import agreement, cohen_kappa
from moe_safety.judges.kind import JudgeKind
from moe_safety.judges.rules import RulesJudge
from moe_safety.judges.verdict import TOO_LONG, Exchange, Judge, Verdict

__all__ = [
    "JUDGES",
    "TOO_LONG",
    "Exchange",
    "Judge",
    "JudgeKind",
    "RulesJudge",
    "Verdict",
    "agreement",
    "ask",
    "check_judge",
    "cohen_kappa",
    "judge_inputs",
    "make_judge",
]

REFUSAL = "judges.refusal"


def make_judge(settings: JudgeSettings, key: str = REFUSAL) -> Judge:
    """The judge that a configuration names, ready to work; an error where it cannot. `key` is where its settings
    stand."""
    judge: Judge = JUDGES.get(settings.kind).make(settings, key)
    return judge


def check_judge(settings: JudgeSettings, key: str = REFUSAL) -> None:
    """What can be known of a judge before hours of work, without loading it: whether an endpoint has its key."""
    JUDGES.get(settings.kind).check(settings, key)


def judge_inputs(settings: JudgeSettings, key: str = REFUSAL) -> dict[str, str]:
    """What judges, by the judge's name: hashes of its model, which is fetched and found first, so that it fails early;
    the rules' version; and that of the package which brought it."""
    found = JUDGES.get(settings.kind).depends(settings, key)
    return {f"judge {name}": digest for name, digest in found.items()} | JUDGES.identity(settings.kind)


JUDGES.add_folder("moe_safety.judges.kinds")
