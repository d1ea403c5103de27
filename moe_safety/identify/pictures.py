"""The pictures of `identify`: layer by expert, the same for batches or categories, and the ranking.

What another method than the routing's ranks by has a map of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from moe_safety.config import IdentifyConfig
from moe_safety.identify.analysis import Analysis, Risk
from moe_safety.identify.experts import Experts
from moe_safety.identify.heatmaps import heatmap, small_maps
from moe_safety.identify.ranking import ranking
from moe_safety.identify.scatter import scatter
from moe_safety.rundir import RunDir

HEATMAP = "risk_diff.png"
BATCH_MAPS = "risk_diff_batches.png"
CATEGORY_MAPS = "risk_diff_categories.png"
RANKING = "risk_rank.png"
SCORE_MAP = "score.png"
AGREEMENT_MAP = "agreement.png"

PANELS = 16
"""At most so many small maps."""
_TITLES = {
    "risk_diff": "Risk difference (unsafe − safe)",
    "risk_diff_mean": "Risk difference (unsafe − safe, mean over batches)",
    "risk_diff_control": "Risk difference ((unsafe − safe) − (control − benign))",
    "weight": "Difference in routing weight (unsafe − safe)",
    "gradient": "Mean absolute gradient",
    "gradient_l2": "Root of the mean squared gradient",
    "gradient_per_token": "Mean absolute gradient per token",
    "effect": "Effect of holding the expert back",
    "first_order": "Effect of holding the expert back, first-order estimate",
}


def draw_pictures(run: RunDir, analysis: Analysis, settings: IdentifyConfig) -> list[str]:
    """Writes the pictures and returns their names."""
    drawn = _draw_risk(run, analysis, analysis.risk, settings) if analysis.risk else []
    if analysis.scored:
        title = _TITLES[settings.ranked_by] + ("" if analysis.risk else ", routing not captured")
        _save(run, SCORE_MAP, heatmap(analysis.experts, analysis.scored.scores, analysis.selected, title))
        drawn.append(SCORE_MAP)
    return drawn


def _draw_risk(run: RunDir, analysis: Analysis, risk: Risk, settings: IdentifyConfig) -> list[str]:
    """Three pictures. The small maps are of categories where there are several."""
    experts, title = analysis.experts, _TITLES[settings.routing_score]
    _save(run, HEATMAP, heatmap(experts, risk.scores(settings.routing_score), analysis.selected, title))
    by_category = len(analysis.places.categories) > 1
    groups = risk.categories if by_category else risk.batches
    chosen = risk.per_category if by_category else analysis.per_batch
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
