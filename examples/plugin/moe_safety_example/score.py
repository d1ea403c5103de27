"""A score: the risk difference as a log-odds ratio. A rise from 1 % to 5 % of the tokens then counts for more than one
from 40 % to 44 %."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from moe_safety.config import Section
from moe_safety.scores import SAFE, UNSAFE, RoutingScore, Sums


class Smoothing(Section):
    tokens: float = Field(0.5, gt=0)
    """Added to the tokens that an expert got, and to those that it did not get, so that rates of 0 and 1 have odds."""


def log_odds(sums: Sums, settings: Smoothing) -> np.ndarray:
    """[groups, experts]: the log-odds of the activation rate on unsafe prompts minus that on safe ones."""
    return _log_odds(sums, UNSAFE, settings.tokens) - _log_odds(sums, SAFE, settings.tokens)


def _log_odds(sums: Sums, label: int, more: float) -> np.ndarray:
    got, all_tokens = sums.experts[:, label], sums.tokens[:, label, None]
    with np.errstate(invalid="ignore"):
        odds = np.log(got + more) - np.log(all_tokens - got + more)
    # Of a label without a counted token nothing is known.
    return np.where(all_tokens > 0, odds, np.nan)


LOG_ODDS = RoutingScore(
    name="log_odds",
    title="Log-odds ratio (unsafe / safe)",
    definition="Log-odds of the activation rate on unsafe minus on safe prompts",
    heading="Log-odds ratio",
    unit="natural logarithm",
    sign="more is guiltier: above 0 the attack reaches the expert more than plain goals do, below 0 less",
    formula=log_odds,
    column="log_odds",
    interval=("low_log_odds", "high_log_odds"),
    lowest=0.0,
    section=Smoothing,
)
