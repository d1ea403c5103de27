"""The rules as a judge; all that their verdicts depend on stands in a folder of its own, `judges/rules`."""

from __future__ import annotations

from moe_safety.config import JUDGES, RulesSettings
from moe_safety.judges.kind import JudgeKind
from moe_safety.judges.rules import rules_digest
from moe_safety.judges.verdict import Judge


def _make(settings: RulesSettings, key: str) -> Judge:
    # Its tables of patterns are compiled when they are imported, and help needs none.
    from moe_safety.judges.rules.judge import RulesJudge

    return RulesJudge()


JUDGES.add(
    JudgeKind(
        about="offline, deterministic, no model: what the sentences of an answer do",
        section=RulesSettings,
        make=_make,
        depends=lambda settings, key: {"rules": rules_digest()},
    )
)
