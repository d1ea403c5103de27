"""The report's pictures: AUROC of every score with its interval, and the reset curves of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.planted.report.figures import CHANCE, ORACLE, Summary, percent

_SHARES = ("#9ecae1", "#3182bd", "#08306b")
_LINES = ("#b2182b", "#e08214", "#1b7837", "#2166ac", "#762a83", "#a6611a")
_GREY = "#7f7f7f"


def auroc_picture(summary: Summary, order: Sequence[str], shares: Sequence[float]) -> Figure:
    """`summary` is by share and score."""
    figure = Figure(figsize=(8.5, 1.2 + 0.27 * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.5, color=_GREY, linewidth=1, linestyle="--")
    for number, share in enumerate(shares):
        found = [summary[share, name]["auroc"] for name in order]
        places = np.arange(len(order)) + 0.22 * (number - (len(shares) - 1) / 2)
        colour = _SHARES[number % len(_SHARES)]
        axes.hlines(places, [one.low for one in found], [one.high for one in found], colors=colour, linewidth=1.6)
        axes.scatter(
            [one.mean for one in found], places, s=16, color=colour, zorder=3, label=f"{percent(share)} planted"
        )
    axes.set_yticks(range(len(order)), labels=list(order), fontsize=8)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set(xlim=(0.2, 1.0), xlabel="AUROC, mean and 95 % interval over plantings (dashed: chance)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def reset_picture(curves: Mapping[float, Mapping[str, np.ndarray]], shown: Sequence[str]) -> Figure:
    """A panel for each share, as far as half of all experts."""
    figure = Figure(figsize=(4.1 * len(curves), 4.4), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for panel, (share, of) in zip(panels, curves.items(), strict=True):
        half = (len(of[ORACLE]) + 1) // 2
        panel.plot(of[ORACLE][:half], color="black", linewidth=2, label=ORACLE)
        panel.plot(of[CHANCE][:half], color=_GREY, linewidth=1.5, linestyle="--", label=CHANCE)
        for number, name in enumerate(shown):
            panel.plot(of[name][:half], color=_LINES[number % len(_LINES)], linewidth=1.4, label=name)
        panel.set(title=f"{percent(share)} planted", xlabel="experts put back, best first", ylim=(-0.02, 1.02))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("attack success")
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure
