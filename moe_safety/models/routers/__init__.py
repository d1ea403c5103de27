"""Changing or reading the choice of experts, by each family's own rule from logits to choices and weights."""

from moe_safety.models.routers.distributions import (
    KL,
    divergence,
    mean_distribution,
    summed_distribution,
    top_k_overlap,
)
from moe_safety.models.routers.hooks import rule_of
from moe_safety.models.routers.parameters import routers
from moe_safety.models.routers.preference import Preference, avoiding, preferring
from moe_safety.models.routers.record import Seen, probabilities, recording
from moe_safety.models.routers.replay import Replay, replaying

__all__ = [
    "KL",
    "Preference",
    "Replay",
    "Seen",
    "avoiding",
    "divergence",
    "mean_distribution",
    "preferring",
    "probabilities",
    "recording",
    "replaying",
    "routers",
    "rule_of",
    "summed_distribution",
    "top_k_overlap",
]
