"""How good a selection is, without any training: whether its experts tell attacks apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

_SHRINKAGE = 0.1
"""Share of the pooled covariance that is replaced by its mean variance: there may be more experts than prompts."""


@dataclass(frozen=True)
class Prompts:
    """How often each expert is active on each prompt, and which prompts are attacks."""

    rates: np.ndarray
    """[prompts, experts], float32."""
    attack: np.ndarray

    @property
    def is_mixed(self) -> bool:
        """Whether there are attacks and other prompts among them."""
        return bool(self.attack.any() and not self.attack.all())


def held_out_auroc(training: Prompts, held_out: Prompts, columns: np.ndarray) -> float:
    """How well these experts' activation tells held-out attacks from other prompts: the area under the curve of a
    linear discriminant that is fitted on training prompts."""
    direction = _discriminant(training.rates[:, columns], training.attack)
    return auroc(held_out.rates[:, columns] @ direction, held_out.attack)


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive scores above a negative; ties count half."""
    n = int(positive.sum())
    above = rankdata(scores)[positive].sum() - n * (n + 1) / 2
    return float(above / (n * (len(scores) - n)))


def _discriminant(rates: np.ndarray, attack: np.ndarray) -> np.ndarray:
    rates = rates.astype(np.float64)
    means = rates[attack].mean(axis=0), rates[~attack].mean(axis=0)
    centred = np.where(attack[:, None], rates - means[0], rates - means[1])
    covariance = centred.T @ centred / max(1, len(rates) - 2)
    spread = np.trace(covariance) / len(covariance)
    # An expert that never varies leaves a row of zeros: the smallest number keeps the system solvable.
    covariance = (1 - _SHRINKAGE) * covariance + (_SHRINKAGE * spread + 1e-12) * np.eye(len(covariance))
    return np.linalg.solve(covariance, means[0] - means[1])
