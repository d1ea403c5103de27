"""The report's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from benchmarks.planted.report.figures import MEASURES, Estimate, Summary, percent
from benchmarks.planted.scores import FAMILIES
from benchmarks.planted.scores.offered import label_of
from moe_safety.scores import SCORES

_OFFERED = {label_of(score): score for score in SCORES}

STEPS = {
    "controls subtracted from the risk difference": ("risk difference", "risk difference, control-adjusted"),
    "gradient divided by the tokens received": ("gradient", "gradient per token"),
    "gradient of compliance subtracted": ("gradient", "gradient, refusal minus compliance"),
    "effect in place of gradient": ("gradient", "effect"),
    "controls subtracted from the effect": ("effect, first token", "effect minus control, first token"),
    "first token in place of 16": ("effect", "effect, first token"),
    "first-order estimate in place of the effect": ("effect, first token", "first-order effect, first token"),
    "estimate averaged over draws": ("first-order effect, first token", "averaged first-order effect"),
    "best experts held back as well": ("effect, first token", "conditional effect"),
    "the same, as `identify` does it": ("effect minus control", "effect minus control, conditional"),
}
"""Pairs of scores that differ in one thing."""


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share_table(summary: Summary, order: Sequence[str], share: float) -> str:
    """All scores at one share, best first."""
    rows = []
    for name in sorted(order, key=lambda name: -summary[share, name]["auroc"].mean):
        found = summary[share, name]
        verdict = " (no better than chance)" if found["auroc"].may_be_chance else ""
        rows.append([name + verdict, *(str(found[measure]) for measure in MEASURES)])
    return markdown(["score", *MEASURES.values()], rows)


def family_table(summary: Summary, order: Sequence[str], shares: Sequence[float]) -> str:
    """The best score of each family, and those that `identify` has."""
    best = [next(name for name in order if name in scores) for scores in FAMILIES.values()]
    columns = [(measure, share) for measure in ("auroc", "reset") for share in shares]
    rows = []
    for name in order:
        if name in best or name in _OFFERED or name == "random":
            family = next(family for family, scores in FAMILIES.items() if name in scores)
            marks = [f"**{name}**" if name in best else name, family, _in_identify(name)]
            rows.append([*marks, *(str(summary[share, name][measure]) for measure, share in columns)])
    head = [f"{MEASURES[measure]}, {percent(share)}" for measure, share in columns]
    return markdown(["score", "family", "in `identify`", *head], rows)


def _in_identify(name: str) -> str:
    """The method and the name of a score there."""
    return f"`{_OFFERED[name].method}`, `{_OFFERED[name].name}`" if name in _OFFERED else ""


def step_table(frame: pd.DataFrame, shares: Sequence[float]) -> str:
    """What AUROC gains from one score to another on the same plantings."""
    wide = frame.pivot(index=["share", "shape", "seed"], columns="score", values="auroc")
    rows = []
    for what, (before, after) in STEPS.items():
        gain = wide[after] - wide[before]
        found = [Estimate.of(gain.loc[share].to_numpy()) for share in shares]
        cells = [f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}]" for one in found]
        rows.append([what, f"{before} → {after}", *cells])
    return markdown(["change", "from → to", *map(percent, shares)], rows)


def shape_table(by_shape: Summary, order: Sequence[str], measure: str) -> str:
    """One measure of all scores, a column for each shape and share."""
    columns = sorted({(shape, share) for shape, share, _ in by_shape})
    rows = []
    for name in order:
        found = [by_shape[(*column, name)][measure] for column in columns]
        rows.append([name, *(f"{one.mean:.2f} ± {one.mean - one.low:.2f}" for one in found)])
    return markdown(["score", *(f"{shape}, {percent(share)}" for shape, share in columns)], rows)


def score_list() -> str:
    """What each score is."""
    rows = [[name, family, what] for family, scores in FAMILIES.items() for name, what in scores.items()]
    return markdown(["score", "family", "what it is"], rows)
