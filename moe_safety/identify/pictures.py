"""The pictures of `identify`: layer by expert, the same for batches or categories, and the ranking."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from moe_safety.config import IdentifyConfig
from moe_safety.identify.analysis import Analysis, score_column
from moe_safety.identify.experts import Experts
from moe_safety.identify.heatmaps import heatmap, small_maps
from moe_safety.identify.ranking import ranking
from moe_safety.identify.scatter import scatter
from moe_safety.rundir import RunDir

HEATMAP = "risk_diff.png"
BATCH_MAPS = "risk_diff_batches.png"
CATEGORY_MAPS = "risk_diff_categories.png"
RANKING = "risk_rank.png"
AGREEMENT_MAP = "agreement.png"

PANELS = 16
"""At most so many small maps."""
_TITLES = {
    "risk_diff": "Risk difference (unsafe − safe)",
    "risk_diff_mean": "Risk difference (unsafe − safe, mean over batches)",
    "risk_diff_control": "Risk difference ((unsafe − safe) − (control − benign))",
    "weight": "Difference in routing weight (unsafe − safe)",
}


def draw_pictures(run: RunDir, analysis: Analysis, settings: IdentifyConfig) -> list[str]:
    """Writes the three pictures and returns their names. The small maps are of categories where there are several."""
    experts, title = analysis.experts, _TITLES[settings.routing_score]
    values = analysis.table[score_column(settings.routing_score)].to_numpy()
    _save(run, HEATMAP, heatmap(experts, values, analysis.selected, title))
    by_category = len(analysis.places.categories) > 1
    groups = analysis.categories if by_category else analysis.batches
    chosen = analysis.per_category if by_category else analysis.per_batch
    names = [key if isinstance(key, str) else f"batch {key}" for key in chosen]
    few = f" (first {PANELS} of {len(names)})" if len(names) > PANELS else ""
    maps = small_maps(
        experts,
        groups[:PANELS].scores(settings.routing_score),
        list(chosen.values()),
        names,
        f"{title} by {'category' if by_category else 'batch'}{few}",
    )
    small = CATEGORY_MAPS if by_category else BATCH_MAPS
    _save(run, small, maps)
    _save(run, RANKING, ranking(analysis, settings, title))
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
