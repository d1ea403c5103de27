"""Judges say whether an answer refuses."""

from moe_safety.config import JudgeConfig
from moe_safety.judges.rules import RulesJudge
from moe_safety.judges.verdict import Judge, Verdict

__all__ = ["Judge", "RulesJudge", "Verdict", "make_judge"]


def make_judge(config: JudgeConfig) -> Judge:
    """The judge that a configuration names."""
    return RulesJudge()
