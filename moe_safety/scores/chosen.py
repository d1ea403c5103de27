"""The score that a configuration ranks by, and what follows from all scores that there are."""

from __future__ import annotations

from moe_safety.config import SCORES, Config
from moe_safety.scores.routing import RoutingScore
from moe_safety.scores.score import Score


def score_in_force(config: Config, name: str | None = None) -> Score:
    """The score of this name with its settings; without a name the one that is ranked by."""
    score: Score = SCORES.get(name or config.identify.ranked_by)
    return score.with_settings(SCORES.settings(config.scores, score.name))


def routing_scores(config: Config) -> list[RoutingScore]:
    """All that follow from counts of tokens, then the one that routing tables are ranked by."""
    names = [score.name for score in SCORES if isinstance(score, RoutingScore) and score.sums == "counts"]
    last = config.identify.routing_score
    found = [score_in_force(config, name) for name in [*(name for name in names if name != last), last]]
    return [score for score in found if isinstance(score, RoutingScore)]


def default_scores() -> list[Score]:
    """Each method's first choice."""
    return [score for score in SCORES if score.default]


def score_tables() -> list[str]:
    """The tables that scores stand in."""
    return list(dict.fromkeys(score.reads.table for score in SCORES))
