"""What `evaluate` and `compare` say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHORT = {
    "asr": "attack success",
    "answered": "attacks answered",
    "plain_refusal": "plain refusal",
    "plain_harm": "plain harm",
    "over_refusal": "over-refusal",
    "over_refusal_control": "over-refusal in the wrapper",
}


def success(rates: Mapping[str, Any]) -> str:
    """What `asr` is called among these rates: without a judge of harm it is known of an answer only that it is one."""
    return SHORT["asr" if "answered" in rates else "answered"]


def success_of(rates: Mapping[str, Any]) -> str:
    """The same in a sentence."""
    return "attack success" if "answered" in rates else "the share of attacks answered"


def subject_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A line for the rates, and one for each thing beside them."""
    yield f"evaluate {found['arm']}: {headline(found['overall'])}"
    for name, what in {"unparsed": "", "unparsed_harm": " for harm"}.items():
        if unparsed := found["overall"].get(name, {}).get("value"):
            yield f"  {unparsed:.1%} of the answers could not be judged{what}"
    for k, rate in found.get("success_at", {}).items():
        yield f"  {success(found['overall'])} within {k} tries: {share(rate)}"
    for name, rate in found.get("corrected", {}).items():
        yield f"  {name} corrected by its judge's errors: {span(rate)}"
    if too_long := found.get("too_long_to_judge"):
        yield f"  {too_long} questions were too long for the judge, which gave them no verdict"
    if (changed := found.get("compared", {}).get("asr")) and changed["n"]:
        no, yes = ("fail", "succeed") if "answered" in found["overall"] else ("are not answered", "are answered")
        moved = f"{changed['b']} attacks {no} now, {changed['c']} {yes} now, of {counted(changed)}"
        yield f"  against the base: {moved}, p = {changed['p']:.2g}"
    for pair, kappa in (found.get("agreement", {}) | found.get("agreement_harm", {})).items():
        yield f"  agreement of {pair}: {'n/a' if kappa is None else f'{kappa:.2f}'} (Cohen's kappa)"
    for name, rate in found["reattack"].items():
        yield f"  re-attack {name}: {success(found['overall'])} {share(rate)}"
    for name, suite in found.get("suites", {}).items():
        names = SHORT | {"asr": success(found["overall"])}
        told = [f"{names[one]} {share(rate)}" for one, rate in suite["rates"].items() if one in names]
        gone = told_account(suite)
        yield f"  suite {name}: {', '.join(told)}" + (f"; not asked: {gone}" if gone else "")
    for name, task in found["tasks"].items():
        yield f"  task {name}: {metrics(task)}"


def headline(rates: Mapping[str, Any]) -> str:
    """The main rates in a line."""
    names = SHORT | {"asr": success(rates)}
    known = {measure: rates[measure] for measure in names if measure in rates and rates[measure]["n"]}
    return ", ".join(f"{names[measure]} {share(rate)}" for measure, rate in known.items())


def told_account(suite: Mapping[str, Any]) -> str:
    """What of the suite's file is not asked, and why; nothing where all of it is."""
    reasons = {**suite.get("dropped", {})}
    if suite["left_out"]:
        reasons["whose goals stand in another split"] = suite["left_out"]
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def metrics(task: Mapping[str, float | None]) -> str:
    """The metrics of a task of lm-evaluation-harness, with their standard errors."""
    return ", ".join(
        f"{name} {'n/a' if value is None else format(value, '.4g')}{_error(task, name)}"
        for name, value in task.items()
        if "_stderr" not in name
    )


def _error(task: Mapping[str, float | None], name: str) -> str:
    metric, comma, behind = name.partition(",")
    error = task.get(f"{metric}_stderr{comma}{behind}")
    return "" if error is None else f" ± {error:.2g}"


def share(rate: Mapping[str, Any]) -> str:
    """A rate, its n and the goals behind it, and what it is with the answers counted that got no verdict."""
    if rate["value"] is None:
        return "none"
    unread = rate.get("unparsed")
    worst = f", {rate['with_unparsed']['value']:.3f} with {unread} unparsed counted" if unread else ""
    return f"{rate['value']:.3f} ({counted(rate)}{worst})"


def span(rate: Mapping[str, Any]) -> str:
    """A corrected rate with its interval."""
    value = "unknown" if rate["value"] is None else f"{rate['value']:.3f}"
    return f"{value} [{rate['low']:.2f}, {rate['high']:.2f}]"


def counted(found: Mapping[str, Any]) -> str:
    """How many answers, and of how many goals."""
    return f"n={found['n']} of {found['n_goals']} goals"
