"""`docs/identification.md` and its pictures, from all results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.planted.measures import carried
from benchmarks.planted.report import tables
from benchmarks.planted.report.figures import (
    MEASURES,
    Summary,
    curves,
    estimates,
    figures,
    percent,
    plantings,
    read_results,
)
from benchmarks.planted.report.pictures import auroc_picture, reset_picture
from benchmarks.planted.scores import FAMILIES
from moe_safety.rundir import RunDir

TEMPLATE = Path(__file__).with_name("identification.md")
AUROC_GOAL, RESET_GOAL = 0.85, 0.9
SHOWN = 6
"""Curves in the picture, beside those of the best and of all orders."""
FLOOR = 0.02
"""An expert whose putting back takes less than this from attack success carries nothing to speak of."""


def write_report(out: str, docs: str) -> None:
    results = read_results(out)
    frame = figures(results)
    shares = sorted(frame["share"].unique())
    summary = estimates(frame, ["share", "score"])
    order = frame.groupby("score")["auroc"].mean().sort_values(ascending=False, kind="stable").index.tolist()
    run = RunDir(docs)
    _save(run, "images/identification_auroc.png", auroc_picture(summary, order, shares))
    shown = _shown(order)
    _save(run, "images/identification_reset.png", reset_picture({s: curves(results, s) for s in shares}, shown))
    facts = _facts(frame, summary, order, shares) | _counts(results) | _tables(frame, summary, order, shares)
    run.write_bytes("identification.md", Template(TEMPLATE.read_text()).substitute(facts).encode())
    print(f"{run.path('identification.md')}: {len(results)} results, best by AUROC: {order[0]}")


def _shown(order: Sequence[str]) -> list[str]:
    """The best score of each family, and the default of each method of `identify`."""
    best = [next(name for name in order if name in scores) for name, scores in FAMILIES.items() if name != "combined"]
    usual = ["risk difference", "gradient", "effect minus control"]
    return sorted({*best, *usual}, key=order.index)[:SHOWN]


def _facts(frame: pd.DataFrame, summary: Summary, order: Sequence[str], shares: Sequence[float]) -> dict[str, str]:
    """What the text says of the figures."""
    best = [summary[share, order[0]] for share in shares]
    chance = []
    for share in shares:
        names = [name for name in order if summary[share, name]["auroc"].may_be_chance]
        chance.append(f"- {percent(share)} planted: {'; '.join(names) or 'none'}")
    return {
        "best": order[0],
        "best_auroc": _listed([str(found["auroc"]) for found in best]),
        "best_reset": _listed([str(found["reset"]) for found in best]),
        "shares": _listed([percent(share) for share in shares]),
        "auroc_goal": _goal(shares, [found["auroc"].mean for found in best], AUROC_GOAL),
        "reset_goal": _goal(shares, [found["reset"].mean for found in best], RESET_GOAL),
        "chance": "\n".join(chance),
        "shapes": _listed(frame["shape"].unique().tolist()),
        "seeds": str(frame["seed"].nunique()),
    }


def _counts(results: list[dict[str, Any]]) -> dict[str, str]:
    """What was planted, and what it took."""
    took = list(plantings(results))
    tried = sum(len(result["plantings"]) for result in results)
    carrying = []
    for share in sorted({planting["share"] for planting in took}):
        values = [carried(np.array(planting["success"])) for planting in took if planting["share"] == share]
        carrying.append(f"{np.mean(np.concatenate(values) >= FLOOR) * 100:.0f} % at {percent(share)}")
    seconds: dict[str, list[float]] = {}
    for timed in [*results, *took]:
        for step, value in timed["seconds"].items():
            seconds.setdefault(step, []).append(value)
    return {
        "plantings": str(tried),
        "took": str(len(took)),
        "redrawn": str(sum(planting["draw"] > 0 for planting in took)),
        "carrying": _listed(carrying),
        "floor": f"{FLOOR:.2f}",
        "seconds": ", ".join(f"{step} {np.mean(values):.1f} s" for step, values in seconds.items()),
        "versions": ", ".join(f"{name} {version}" for name, version in results[0]["versions"].items()),
    }


def _tables(frame: pd.DataFrame, summary: Summary, order: Sequence[str], shares: Sequence[float]) -> dict[str, str]:
    by_shape = estimates(frame, ["shape", "share", "score"])
    whole = [f"### {percent(share)} planted\n\n{tables.share_table(summary, order, share)}" for share in shares]
    split = [
        f"### {title} by model shape\n\n{tables.shape_table(by_shape, order, measure)}"
        for measure, title in MEASURES.items()
    ]
    return {
        "families": tables.family_table(summary, order, shares),
        "steps": tables.step_table(frame, shares),
        "tables": "\n\n".join(whole),
        "by_shape": "\n\n".join(split),
        "scores": tables.score_list(),
    }


def _goal(shares: Sequence[float], means: Sequence[float], goal: float) -> str:
    missed = [percent(share) for share, mean in zip(shares, means, strict=True) if mean < goal]
    return f"missed at {_listed(missed)}" if missed else "met"


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _save(run: RunDir, name: str, figure: Figure) -> None:
    # Without the library's name and version in it, the same numbers give the same bytes.
    with run.writing(name) as path:
        figure.savefig(path, format="png", dpi=150, metadata={"Software": None})
