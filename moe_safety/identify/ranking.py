"""The ranking of all experts by score, with intervals."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_safety.config import IdentifyConfig
from moe_safety.identify.analysis import Analysis, Risk

NAMED = 40
"""At most so many experts are named."""
_INTERVALS = {
    "risk_diff": ("low", "high"),
    "risk_diff_control": ("low_control", "high_control"),
    "weight": ("low_weight", "high_weight"),
}
_DARK, _CHOSEN, _OTHER = "#222222", "#b2182b", "#5a6b7b"


def ranking(analysis: Analysis, risk: Risk, settings: IdentifyConfig, title: str) -> Figure:
    """All experts on the left, the best by name on the right."""
    score = settings.routing_score
    ranked = risk.table.iloc[np.argsort(-risk.scores(score), kind="stable")]
    values = risk.scores(score)[ranked.index]
    # The mean over batches has no interval of its own: its ends fall together with it.
    low, high = (ranked[name].to_numpy() for name in _INTERVALS.get(score, (score, score)))
    chosen = np.isin(ranked.index, analysis.experts.find(analysis.selected))
    names = ranked["Layer_Expert"].tolist()[:NAMED]
    figure = Figure(figsize=(11, max(3.5, 1.2 + 0.17 * len(names))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_all(left, values, low, high, chosen)
    if settings.needs_routing:
        left.axhline(settings.threshold, color=_OTHER, linewidth=0.9, linestyle="--", label="threshold")
    left.set(xlabel="rank", ylabel=title, title="All experts")
    left.legend(fontsize=8, frameon=False)
    _draw_best(right, names, values, low, high, chosen)
    right.set(xlabel=title, title=f"Best {len(names)} (filled: selected)")
    return figure


def _draw_all(axes: Axes, values: np.ndarray, low: np.ndarray, high: np.ndarray, chosen: np.ndarray) -> None:
    ranks = np.arange(1, len(values) + 1)
    axes.fill_between(ranks, low, high, color=_OTHER, alpha=0.3, linewidth=0, label="95 % interval over goals")
    axes.plot(ranks, values, color=_DARK, linewidth=1, label="all experts")
    axes.scatter(ranks[chosen], values[chosen], s=9, color=_CHOSEN, zorder=3, label="selected")
    axes.axhline(0, color=_OTHER, linewidth=0.6)


def _draw_best(
    axes: Axes, names: list[str], values: np.ndarray, low: np.ndarray, high: np.ndarray, chosen: np.ndarray
) -> None:
    places = range(len(names))
    colours = [_CHOSEN if chosen[place] else _OTHER for place in places]
    filled = [_CHOSEN if chosen[place] else "white" for place in places]
    axes.hlines(places, low[: len(names)], high[: len(names)], colors=colours, linewidth=1.2)
    axes.scatter(values[: len(names)], places, s=14, facecolors=filled, edgecolors=colours, zorder=3)
    axes.set_yticks(places, labels=names, fontsize=7, family="monospace")
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axvline(0, color=_OTHER, linewidth=0.6)
