"""Changing or reading the choice of experts, by each family's own rule from logits to choices and weights."""

from moe_safety.models.choosing.calls import rule_of
from moe_safety.models.choosing.distributions import (
    KL,
    divergence,
    mean_distribution,
    summed_distribution,
    top_k_overlap,
)
from moe_safety.models.choosing.preferring import Preference, avoiding, preferring
from moe_safety.models.choosing.replaying import Replay, replaying
from moe_safety.models.choosing.seeing import Seen, probabilities, recording
from moe_safety.models.choosing.trainable import routers

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
