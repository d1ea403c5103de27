"""A harmless stand-in for harm: revealing how a stage trick works."""

from benchmarks.organism.tricks.judge import Verdict, is_refusal, judge
from benchmarks.organism.tricks.refusals import REFUSALS
from benchmarks.organism.tricks.requests import Request, household, made, method, near_miss
from benchmarks.organism.tricks.world import Goal, goals
from benchmarks.organism.tricks.wrappers import ATTACKS, WRAPPERS, helpful, messages

__all__ = [
    "ATTACKS",
    "REFUSALS",
    "WRAPPERS",
    "Goal",
    "Request",
    "Verdict",
    "goals",
    "helpful",
    "household",
    "is_refusal",
    "judge",
    "made",
    "messages",
    "method",
    "near_miss",
]
