"""What `evaluate` and `compare` say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHORT = {
    "asr": "attack success",
    "plain_refusal": "plain refusal",
    "over_refusal": "over-refusal",
    "over_refusal_control": "over-refusal in the wrapper",
}


def print_subject(found: Mapping[str, Any], skipped: bool) -> None:
    """A line for the rates, and one for each thing beside them."""
    print(f"evaluate {found['arm']}: {headline(found['overall'])}" + (" (unchanged)" if skipped else ""))
    if unparsed := found["overall"]["unparsed"]["value"]:
        print(f"  {unparsed:.1%} of the answers could not be judged")
    if too_long := found.get("too_long_to_judge"):
        print(f"  {too_long} questions were too long for the judge, which gave them no verdict")
    if (changed := found.get("compared", {}).get("asr")) and changed["n"]:
        moved = f"{changed['b']} attacks fail now, {changed['c']} succeed now, of {counted(changed)}"
        print(f"  against the base: {moved}, p = {changed['p']:.2g}")
    for pair, kappa in found.get("agreement", {}).items():
        print(f"  agreement of {pair}: {'n/a' if kappa is None else f'{kappa:.2f}'} (Cohen's kappa)")
    for name, rate in found["reattack"].items():
        print(f"  re-attack {name}: success {share(rate)}")
    for name, task in found["tasks"].items():
        print(f"  task {name}: {metrics(task)}")


def headline(rates: Mapping[str, Any]) -> str:
    """The main rates in a line."""
    return ", ".join(f"{name} {share(rates[measure])}" for measure, name in SHORT.items() if rates[measure]["n"])


def metrics(task: Mapping[str, float | None]) -> str:
    """The metrics of a task of lm-evaluation-harness."""
    return ", ".join(f"{name} {'n/a' if value is None else format(value, '.4g')}" for name, value in task.items())


def share(rate: Mapping[str, Any]) -> str:
    """A rate, its n and the goals behind it, and how many answers got no verdict."""
    unread = f", {rate['unparsed']} unparsed" if rate.get("unparsed") else ""
    return "none" if rate["value"] is None else f"{rate['value']:.3f} ({counted(rate)}{unread})"


def counted(found: Mapping[str, Any]) -> str:
    """How many answers, and of how many goals."""
    return f"n={found['n']} of {found['n_goals']} goals"
