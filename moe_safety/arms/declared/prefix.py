"""Refusals after a part of the answer that the attack got (Qi et al. 2024, https://arxiv.org/abs/2406.05946)."""

from __future__ import annotations

from dataclasses import replace

from moe_safety.arms.arm import OfArm
from moe_safety.arms.choice import ByMethod
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS

ARMS.add(replace(selected_arm("prefix", ByMethod("causal"), loss="recovery", by_train=False), section=OfArm))
