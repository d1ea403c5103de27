"""The rules as a judge; all that their verdicts depend on stands in a folder of its own, `judges/rules`."""

from __future__ import annotations

from moe_safety.config import JUDGES, RulesSettings
from moe_safety.judges.kind import JudgeKind
from moe_safety.judges.rules import RulesJudge, rules_digest

JUDGES.add(
    JudgeKind(
        about="offline, deterministic, no model: what the sentences of an answer do",
        section=RulesSettings,
        make=lambda settings, key: RulesJudge(),
        depends=lambda settings, key: {"rules": rules_digest()},
    )
)
