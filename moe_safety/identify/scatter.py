"""Methods against each other: a point is an expert, its colour its layer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moe_safety.identify.experts import Experts


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
