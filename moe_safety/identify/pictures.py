"""Pictures of the differences: layer by expert, the same for batches or categories, and the ranking with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moe_safety.config import IdentifyConfig
from moe_safety.identify.analysis import Analysis, score_column
from moe_safety.identify.experts import Experts, Pair
from moe_safety.rundir import RunDir

HEATMAP, BATCH_MAPS, CATEGORY_MAPS, RANKING = (
    "risk_diff.png",
    "risk_diff_batches.png",
    "risk_diff_categories.png",
    "risk_rank.png",
)
PANELS, RANKED = 16, 40
"""At most so many small maps, and so many named experts in the ranking."""

_TITLES = {
    "risk_diff": "Risk difference",
    "risk_diff_mean": "Risk difference, mean over batches",
    "risk_diff_control": "Risk difference, control-adjusted",
    "weight": "Difference in mean routing weight",
}
_INTERVALS = {
    "risk_diff": ("low", "high"),
    "risk_diff_control": ("low_control", "high_control"),
    "weight": ("low_weight", "high_weight"),
}
_COLOURS, _NOTHING = "RdBu_r", "#d9d9d9"
_DARK, _CHOSEN, _OTHER = "#222222", "#b2182b", "#5a6b7b"


def draw_pictures(run: RunDir, analysis: Analysis, settings: IdentifyConfig) -> list[str]:
    """Writes the three pictures and returns their names. The small maps are of categories where there are several."""
    score, experts = settings.score, analysis.experts
    values = analysis.table[score_column(score)].to_numpy()
    _save(run, HEATMAP, _heatmap(experts, values, analysis.selected, _TITLES[score]))
    if len(analysis.places.categories) > 1:
        name, kind, keys, groups = CATEGORY_MAPS, "category", analysis.places.categories, analysis.categories
        chosen = list(analysis.per_category.values())
    else:
        name, kind, keys, groups = BATCH_MAPS, "batch", analysis.places.batch_ids.tolist(), analysis.batches
        chosen = list(analysis.per_batch.values())
    names = [f"{kind} {key}" if kind == "batch" else str(key) for key in keys]
    scores = groups[:PANELS].scores(score)
    title = f"{_TITLES[score]} by {kind}" + (f" (first {PANELS} of {len(names)})" if len(names) > PANELS else "")
    _save(run, name, _small_maps(experts, scores, chosen, names, title))
    _save(run, RANKING, _ranking(analysis, settings))
    return [HEATMAP, name, RANKING]


def _save(run: RunDir, name: str, figure: Figure) -> None:
    # Without the library's name and version in it, the same numbers give the same bytes.
    with run.writing(name) as path:
        figure.savefig(path, format="png", dpi=200, metadata={"Software": None})


def _heatmap(experts: Experts, values: np.ndarray, chosen: Sequence[Pair], title: str) -> Figure:
    layers, width = experts.shape
    size = (min(14, 3 + 0.11 * width), min(12, 1.7 + 0.16 * layers))
    figure = Figure(figsize=(max(6, size[0]), max(3, size[1])), layout="constrained")
    axes = figure.add_subplot()
    image = _draw_map(axes, experts, values, _reach(values), chosen, marker=14)
    axes.set(xlabel="expert", ylabel="layer", title=f"{title} of each expert (squares: selected)")
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=30)
    bar.set_label("unsafe − safe")
    return figure


def _small_maps(
    experts: Experts, scores: np.ndarray, chosen: Sequence[Sequence[Pair]], names: Sequence[str], title: str
) -> Figure:
    columns = min(4, len(scores))
    rows = math.ceil(len(scores) / columns)
    layers, width = experts.shape
    height = min(3.2, 1.0 + 3.2 * layers / width)
    figure = Figure(figsize=(1.2 + 3.3 * columns, 0.9 + height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    reach = _reach(scores)
    for axes, values, pairs, name in zip(grid.flat, scores, chosen, names, strict=False):
        image = _draw_map(axes, experts, values, reach, pairs, marker=3)
        axes.set_title(name if len(name) <= 34 else f"{name[:33]}…", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in grid.flat[len(scores) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=grid, pad=0.01, aspect=40).set_label("unsafe − safe")
    figure.supxlabel("expert", fontsize=9)
    figure.supylabel("layer", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_map(
    axes: Axes, experts: Experts, values: np.ndarray, reach: float, chosen: Sequence[Pair], marker: float
) -> Any:
    axes.set_facecolor(_NOTHING)
    grid = np.ma.masked_invalid(experts.matrix(values, np.nan))
    image = axes.imshow(grid, cmap=_COLOURS, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
    row, column = np.divmod(experts.flat[experts.find(chosen)], experts.shape[1])
    axes.scatter(column, row, s=marker, marker="s", facecolors="none", edgecolors=_DARK, linewidths=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=9))
    ticks = np.unique(np.linspace(0, experts.shape[0] - 1, min(experts.shape[0], 9)).round().astype(int))
    axes.set_yticks(ticks, labels=[str(layer) for layer in _layers(experts)[ticks]])
    return image


def _layers(experts: Experts) -> np.ndarray:
    """The decoder layer of each row."""
    _, first = np.unique(experts.flat // experts.shape[1], return_index=True)
    return experts.layer[first]


def _reach(values: np.ndarray) -> float:
    """The largest distance from 0, so that 0 is the middle of the colours."""
    found = np.abs(values[np.isfinite(values)])
    return float(found.max(initial=0)) or 1.0


def _ranking(analysis: Analysis, settings: IdentifyConfig) -> Figure:
    ranked = analysis.table.sort_values(
        score_column(settings.score), ascending=False, kind="stable", na_position="last"
    )
    values = ranked[score_column(settings.score)].to_numpy()
    low, high = (ranked[name].to_numpy() for name in _INTERVALS.get(settings.score, ("low", "high")))
    chosen = np.isin(ranked.index, analysis.experts.find(analysis.selected))
    shown = min(RANKED, len(ranked))
    figure = Figure(figsize=(11, max(3.5, 1.2 + 0.17 * shown)), layout="constrained")
    everything, best = figure.subplots(1, 2, width_ratios=(1, 1.15))
    ranks = np.arange(1, len(ranked) + 1)
    everything.fill_between(ranks, low, high, color=_OTHER, alpha=0.3, linewidth=0, label="95 % interval over goals")
    everything.plot(ranks, values, color=_DARK, linewidth=1, label="all experts")
    everything.scatter(ranks[chosen], values[chosen], s=9, color=_CHOSEN, zorder=3, label="selected")
    everything.axhline(0, color=_OTHER, linewidth=0.6)
    everything.axhline(settings.threshold, color=_OTHER, linewidth=0.9, linestyle="--", label="threshold")
    everything.set(xlabel="rank", ylabel=f"{_TITLES[settings.score]} (unsafe − safe)", title="All experts")
    everything.legend(fontsize=8, frameon=False)
    _draw_best(best, ranked["Layer_Expert"].tolist()[:shown], values, low, high, chosen)
    return figure


def _draw_best(
    axes: Axes, names: list[str], values: np.ndarray, low: np.ndarray, high: np.ndarray, chosen: np.ndarray
) -> None:
    for place in range(len(names)):
        colour = _CHOSEN if chosen[place] else _OTHER
        axes.plot([low[place], high[place]], [place, place], color=colour, linewidth=1.2)
        axes.plot(values[place], place, "o", color=colour, markersize=3.5)
    axes.set_yticks(range(len(names)), labels=names, fontsize=7, family="monospace")
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axvline(0, color=_OTHER, linewidth=0.6)
    axes.set(xlabel="unsafe − safe, with its 95 % interval", title=f"Best {len(names)} (red: selected)")
