"""The pictures of `identify`: scores by layer and expert, the same for batches or categories, the ranking, and methods
against each other.

What another method than the routing's ranks by has a map of its own. Scores below 0 are drawn as 0, and without a name:
the pictures tell of the guilty sign alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from moe_safety.config import IdentifyConfig
from moe_safety.identify.analysis import PANELS, Analysis, Risk
from moe_safety.identify.experts import Experts, Pair
from moe_safety.rundir import RunDir

HEATMAP = "risk_diff.png"
BATCH_MAPS = "risk_diff_batches.png"
CATEGORY_MAPS = "risk_diff_categories.png"
RANKING = "risk_rank.png"
SCORE_MAP = "score.png"
AGREEMENT_MAP = "agreement.png"

NAMED = 40
"""At most so many experts are named in the ranking."""
_COLOURS, _NOTHING, _DARK = "Reds", "#d9d9d9", "#111111"
_NAME_LENGTH = 34
_ALIKE = "0 and below alike"
_LINE, _CHOSEN, _OTHER = "#222222", "#b2182b", "#5a6b7b"


def draw_pictures(run: RunDir, analysis: Analysis, settings: IdentifyConfig) -> list[str]:
    """Writes the pictures and returns their names."""
    drawn = _draw_risk(run, analysis, analysis.risk, settings) if analysis.risk else []
    if analysis.scored and analysis.score:
        title = analysis.score.title + ("" if analysis.risk else ", routing not captured")
        _save(run, SCORE_MAP, heatmap(analysis.experts, analysis.scored.scores, analysis.selected, title))
        drawn.append(SCORE_MAP)
    return drawn


def _draw_risk(run: RunDir, analysis: Analysis, risk: Risk, settings: IdentifyConfig) -> list[str]:
    """Three pictures. The small maps are of categories where there are several."""
    experts, title = analysis.experts, risk.score.title
    _save(run, HEATMAP, heatmap(experts, risk.scores(), analysis.selected, title))
    by_category = len(analysis.batch_rows.categories) > 1
    groups = risk.categories if by_category else risk.first_batches
    chosen = risk.per_category if by_category else analysis.per_batch
    names = [key if isinstance(key, str) else f"batch {key}" for key in chosen]
    few = f" (first {PANELS} of {len(names)})" if len(names) > PANELS else ""
    maps = small_maps(
        experts,
        groups[:PANELS].scores(),
        list(chosen.values()),
        names,
        f"{title} by {'category' if by_category else 'batch'}{few}",
    )
    small = CATEGORY_MAPS if by_category else BATCH_MAPS
    _save(run, small, maps)
    _save(run, RANKING, ranking(analysis, risk, settings, title))
    return [HEATMAP, small, RANKING]


def draw_agreement(run: RunDir, scores: Mapping[str, np.ndarray], experts: Experts) -> list[str]:
    """Methods against each other, an expert a point; nothing where there is but one."""
    if len(scores) < 2:
        return []
    _save(run, AGREEMENT_MAP, scatter(scores, experts))
    return [AGREEMENT_MAP]


def _save(run: RunDir, name: str, figure: Figure) -> None:
    # Without the library's name and version in it, the same numbers give the same bytes.
    with run.writing(name) as path:
        figure.savefig(path, format="png", dpi=200, metadata={"Software": None})


def heatmap(experts: Experts, values: np.ndarray, chosen: Sequence[Pair], title: str) -> Figure:
    """One large map; squares mark the chosen experts."""
    layers, width = experts.shape
    size = np.clip((3 + 0.11 * width, 1.7 + 0.16 * layers), (6, 3), (14, 12))
    figure = Figure(figsize=tuple(size), layout="constrained")
    axes = figure.add_subplot()
    image = _draw(axes, experts, values, _reach(values), chosen, marker=14)
    axes.set(xlabel="expert", ylabel="layer", title=f"{title}, squares: selected")
    figure.colorbar(image, ax=axes, pad=0.01, aspect=30, label=_ALIKE if (values < 0).any() else "")
    return figure


def small_maps(
    experts: Experts, scores: np.ndarray, chosen: Sequence[Sequence[Pair]], names: Sequence[str], title: str
) -> Figure:
    """A map for each row of `scores`, all in the same colours."""
    columns = min(4, len(scores))
    rows = math.ceil(len(scores) / columns)
    height = min(3.2, 1.0 + 3.2 * experts.shape[0] / experts.shape[1])
    figure = Figure(figsize=(1.2 + 3.3 * columns, 0.9 + height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    reach = _reach(scores)
    for place, (axes, values) in enumerate(zip(grid.flat, scores, strict=False)):
        image = _draw(axes, experts, values, reach, chosen[place], marker=3)
        name = names[place]
        axes.set_title(name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…", fontsize=8)
        axes.tick_params(labelsize=7, labelbottom=place + columns >= len(scores))
    for axes in grid.flat[len(scores) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=grid, pad=0.01, aspect=18 * rows, label=_ALIKE if (scores < 0).any() else "")
    figure.supxlabel("expert", fontsize=9)
    figure.supylabel("layer", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(
    axes: Axes, experts: Experts, values: np.ndarray, reach: float, chosen: Sequence[Pair], marker: float
) -> AxesImage:
    axes.set_facecolor(_NOTHING)
    grid = np.ma.masked_invalid(experts.matrix(np.maximum(values, 0), np.nan))
    image = axes.imshow(grid, cmap=_COLOURS, vmin=0, vmax=reach, aspect="auto", interpolation="nearest")
    columns = experts.find(chosen)
    row, column = np.divmod(experts.flat[columns], experts.shape[1])
    edges = np.where(values[columns] > 0.6 * reach, "white", _DARK).tolist()
    axes.scatter(column, row, s=marker, marker="s", facecolors="none", edgecolors=edges, linewidths=0.8)
    _label_ticks(axes, experts)
    return image


def _label_ticks(axes: Axes, experts: Experts) -> None:
    """Experts by powers of two; layers by the decoder's index, which dense layers make skip."""
    layers, width = experts.shape
    axes.set_xticks(range(0, width, 2 ** max(0, math.ceil(math.log2(width / 9)))))
    _, first = np.unique(experts.flat // width, return_index=True)
    rows = range(0, layers, math.ceil(layers / 9))
    axes.set_yticks(rows, labels=[str(experts.layer[first[row]]) for row in rows])


def _reach(values: np.ndarray) -> float:
    """The end of the colours, which begin at 0."""
    return float(values[np.isfinite(values)].max(initial=0)) or 1.0


def ranking(analysis: Analysis, risk: Risk, settings: IdentifyConfig, title: str) -> Figure:
    """All experts on the left, the best above 0 by name on the right."""
    scores = risk.scores()
    ranked = risk.table.iloc[np.argsort(-scores, kind="stable")]
    values = scores[ranked.index]
    # Where a score has no interval, its ends fall together with it.
    low, high = (ranked[name].to_numpy() for name in risk.score.interval or (risk.score.column,) * 2)
    chosen = np.isin(ranked.index, analysis.experts.find(analysis.selected))
    names = ranked["Layer_Expert"][values > 0].tolist()[:NAMED]
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
    axes.plot(ranks, values, color=_LINE, linewidth=1, label="all experts")
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
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.axvline(0, color=_OTHER, linewidth=0.6)


def scatter(scores: Mapping[str, np.ndarray], experts: Experts) -> Figure:
    """One panel for each pair of methods."""
    pairs = list(combinations(scores.items(), 2))
    figure = Figure(figsize=(4.2 * len(pairs) + 0.8, 3.8), layout="constrained")
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for panel, ((a, left), (b, right)) in zip(panels, pairs, strict=True):
        points = panel.scatter(left, right, c=experts.layer, cmap="viridis", s=14, alpha=0.8, linewidths=0)
        panel.set(xlabel=a, ylabel=b)
        panel.spines[["top", "right"]].set_visible(False)
        panel.axhline(0, color="0.85", linewidth=0.8, zorder=0)
        panel.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    figure.colorbar(points, ax=panels, label="layer", shrink=0.85, ticks=MaxNLocator(integer=True))
    figure.suptitle("What the methods say of each expert")
    return figure
