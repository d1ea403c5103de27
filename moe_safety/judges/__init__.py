"""Judges say whether an answer refuses what was asked for."""

from __future__ import annotations

from collections import Counter

from moe_safety.config import JudgeConfig
from moe_safety.config.judge import PanelMember
from moe_safety.judges.agreement import agreement, cohen_kappa
from moe_safety.judges.ask import ask
from moe_safety.judges.panel import Panel
from moe_safety.judges.rules import RulesJudge, rules_digest
from moe_safety.judges.verdict import TOO_LONG, Exchange, Judge, Verdict

__all__ = [
    "TOO_LONG",
    "Exchange",
    "Judge",
    "RulesJudge",
    "Verdict",
    "agreement",
    "ask",
    "check_judge",
    "cohen_kappa",
    "judge_inputs",
    "make_judge",
]


def make_judge(config: JudgeConfig) -> Judge:
    """The judge that a configuration names, ready to work; an error where it cannot."""
    members = _members(config)
    if config.kind == "panel":
        return Panel({name: _make(member, key) for name, (key, member) in members.items()})
    return _make(config, "judge")


def check_judge(config: JudgeConfig) -> None:
    """What can be known of a judge before hours of work, without loading it: whether an endpoint has its key."""
    from moe_safety.judges.chat import read_key

    for key, member in _members(config).values():
        if member.endpoint:
            read_key(member.endpoint, f"{key}.endpoint")


def judge_inputs(config: JudgeConfig) -> dict[str, str]:
    """What judges, by the judge's name: hashes of its model, which is fetched and found first, so that it fails early;
    or the rules' version."""
    found = {}
    for name, (key, member) in _members(config).items():
        if member.kind == "rules":
            found[f"judge {name}"] = rules_digest()
        elif model := member.classifier or member.generative:
            from moe_safety.judges.hub import blaming
            from moe_safety.models.fingerprint import fingerprint

            with blaming(model.model, f"{key}.{member.kind}.model"):
                found[f"judge {name}"] = fingerprint(model.model, model.revision)
    return found


def _members(config: JudgeConfig) -> dict[str, tuple[str, JudgeConfig | PanelMember]]:
    """Every single judge by its name, which is its kind, numbered where there are several: its key and settings."""
    if config.panel is None:
        return {config.kind: ("judge", config)}
    kinds = Counter(member.kind for member in config.panel)
    named: dict[str, tuple[str, JudgeConfig | PanelMember]] = {}
    for place, member in enumerate(config.panel):
        name = member.kind if kinds[member.kind] == 1 else f"{member.kind} {place + 1}"
        named[name] = f"judge.panel.{place}", member
    return named


def _make(config: JudgeConfig | PanelMember, key: str) -> Judge:
    # Each kind brings its libraries along only when it is used.
    if config.classifier:
        from moe_safety.judges.classifier import ClassifierJudge

        return ClassifierJudge(config.classifier, f"{key}.classifier")
    if config.generative:
        from moe_safety.judges.generative import GenerativeJudge

        return GenerativeJudge(config.generative, f"{key}.generative")
    if config.endpoint:
        from moe_safety.judges.endpoint import EndpointJudge

        return EndpointJudge(config.endpoint, f"{key}.endpoint")
    return RulesJudge()
