"""Scores from several others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import rankdata

WHAT = {
    "ranks of effect and gradient": "mean rank by effect minus control, first token, and by gradient per token",
    "ranks of conditional and averaged": "mean rank by conditional effect minus control and by averaged first-order"
    " effect",
    "effect x risk difference": "effect minus control, first token, times the control-adjusted risk difference where"
    " both are positive",
    "random": "chance",
}


def combined_scores(scores: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    effect, risk = scores["effect minus control, first token"], scores["risk difference, control-adjusted"]
    conditional, averaged = scores["conditional effect minus control"], scores["averaged first-order effect"]
    return {
        "ranks of effect and gradient": _mean_rank(effect, scores["gradient per token"]),
        "ranks of conditional and averaged": _mean_rank(conditional, averaged),
        "effect x risk difference": np.maximum(effect, 0) * np.maximum(risk, 0),
        "random": np.random.default_rng([seed, *b"planted"]).random(len(effect)),
    }


def _mean_rank(*scores: np.ndarray) -> np.ndarray:
    return np.mean([rankdata(score) for score in scores], axis=0)
