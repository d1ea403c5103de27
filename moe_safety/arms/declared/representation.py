"""Attacks' answers lose the hidden states that they come from (Zou et al. 2024, https://arxiv.org/abs/2406.04313)."""

from __future__ import annotations

from dataclasses import replace

from moe_safety.arms.choice import ByMethod
from moe_safety.arms.losses.rerouting import Rerouting
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS

ARMS.add(
    replace(
        selected_arm("representation", ByMethod("causal"), loss="rerouting", by_train=False),
        section=Rerouting,
    )
)
