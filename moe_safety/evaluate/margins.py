"""Non-inferiority: whether an arm is no worse than the base by more than `compare.margins`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moe_safety.config import MarginsConfig
from moe_safety.evaluate.comparison import aligned
from moe_safety.evaluate.seeds import by_seed, worst_differences


def against(differences: Mapping[str, Mapping[str, Any]], margins: MarginsConfig) -> dict[str, dict[str, Any]]:
    """Each difference with its margin, and whether that `holds`: shown where the whole interval is no higher than the
    margin, disproved where it is above, unknown (None) between. A task's difference is named `TASK.METRIC`."""
    found = {}
    for name, one in differences.items():
        margin = getattr(margins, "tasks" if "." in name else name)
        found[name] = {**one, "margin": margin, "holds": _holds(one, margin)}
    return found


def _holds(one: Mapping[str, Any], margin: float) -> bool | None:
    if one["high"] is None or one["low"] <= margin < one["high"]:
        return None
    return bool(one["high"] <= margin)


def margins_of(arm: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What of the arm stands against margins; of several seeds each difference where it is worst."""
    return worst_differences([one.get("margins", {}) for one in by_seed(arm).values()])


def margins_page(arms: Sequence[Mapping[str, Any]]) -> str:
    """The section of comparison.md; nothing where nothing stands beside the base."""
    found = {arm["arm"]: margins_of(arm) for arm in arms[1:]}
    return f"\n## No worse than the base?\n\n{_ABOUT}{_table(found)}\n" if any(found.values()) else ""


_ABOUT = (
    "How much worse than the base each arm is at what it should keep, with the 95 % interval and `compare.margins`: no "
    "worse where the whole interval is within the margin, worse where it is above; else nothing is shown. Unparsed "
    "answers count against the arm, and not against the base; of several seeds the worst is told.\n\n"
)
HOLDS = {True: "no worse", False: "worse", None: "not shown"}
"""What is said of a margin that holds, that does not, or of which nothing is shown."""


def _table(found: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for each in found.values() for name in each))
    head = ["arm", *(f"{HEADS.get(name, name)} (margin {_margin_of(found, name):g})" for name in names)]
    return aligned([head, *([arm, *(_kept(each.get(name)) for name in names)] for arm, each in found.items())])


HEADS = {"over_refusal": "over-refusal", "over_refusal_control": "wrapped", "benign_loss": "benign loss"}
"""Over columns of differences; tasks have their own names."""


def _margin_of(found: Mapping[str, Mapping[str, Any]], name: str) -> float:
    return next(each[name]["margin"] for each in found.values() if name in each)


def _kept(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    bounds = "" if one["high"] is None else f" [{one['low']:+.3f}, {one['high']:+.3f}]"
    return f"{one['value']:+.3f}{bounds} {HOLDS[one['holds']]}"
