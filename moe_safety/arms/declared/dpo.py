"""Refusals preferred over the answers that attacks got (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290)."""

from __future__ import annotations

from dataclasses import replace

from moe_safety.arms.choice import ByMethod
from moe_safety.arms.losses.preference import Preference
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS

ARMS.add(replace(selected_arm("dpo", ByMethod("causal"), loss="dpo", by_train=False), section=Preference))
