"""Maps of a score, layer by expert, in colours that diverge from 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from moe_safety.identify.experts import Experts, Pair

_COLOURS, _NOTHING, _DARK = "RdBu_r", "#d9d9d9", "#111111"
_NAME_LENGTH = 34


def heatmap(experts: Experts, values: np.ndarray, chosen: Sequence[Pair], title: str) -> Figure:
    """One large map; squares mark the chosen experts."""
    layers, width = experts.shape
    size = np.clip((3 + 0.11 * width, 1.7 + 0.16 * layers), (6, 3), (14, 12))
    figure = Figure(figsize=tuple(size), layout="constrained")
    axes = figure.add_subplot()
    image = _draw(axes, experts, values, _reach(values), chosen, marker=14)
    axes.set(xlabel="expert", ylabel="layer", title=f"{title}, squares: selected")
    figure.colorbar(image, ax=axes, pad=0.01, aspect=30)
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
    figure.colorbar(image, ax=grid, pad=0.01, aspect=18 * rows)
    figure.supxlabel("expert", fontsize=9)
    figure.supylabel("layer", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(
    axes: Axes, experts: Experts, values: np.ndarray, reach: float, chosen: Sequence[Pair], marker: float
) -> AxesImage:
    axes.set_facecolor(_NOTHING)
    grid = np.ma.masked_invalid(experts.matrix(values, np.nan))
    image = axes.imshow(grid, cmap=_COLOURS, vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
    columns = experts.find(chosen)
    row, column = np.divmod(experts.flat[columns], experts.shape[1])
    edges = np.where(np.abs(values[columns]) > 0.6 * reach, "white", _DARK).tolist()
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
    """The largest distance from 0, so that 0 is the middle of the colours."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
