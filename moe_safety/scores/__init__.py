"""Scores: what experts are ranked by. A file of a method's folder declares one, beside its formula; other packages
bring theirs."""

from moe_safety.config import SCORES
from moe_safety.pipeline import RISK
from moe_safety.scores.chosen import default_scores, routing_scores, score_in_force, score_tables
from moe_safety.scores.routing import ROUTING, RoutingScore
from moe_safety.scores.routing.risk_diff import RISK_DIFF, difference
from moe_safety.scores.score import Reads, Score
from moe_safety.scores.sums import BENIGN, CONTROL, LABELS, SAFE, UNSAFE, Moments, Sums

__all__ = [
    "BENIGN",
    "CONTROL",
    "LABELS",
    "RISK",
    "RISK_DIFF",
    "ROUTING",
    "SAFE",
    "SCORES",
    "UNSAFE",
    "Moments",
    "Reads",
    "RoutingScore",
    "Score",
    "Sums",
    "default_scores",
    "difference",
    "routing_scores",
    "score_in_force",
    "score_tables",
]


SCORES.add_folder("moe_safety.scores")
