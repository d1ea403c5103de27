"""Low-rank factors of the selected experts alone (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from dataclasses import replace

from moe_safety.arms.arm import OfArm
from moe_safety.arms.choice import ByMethod
from moe_safety.arms.low_rank import LowRankSettings, low_rank_experts
from moe_safety.arms.selected import selected_arm
from moe_safety.config import ARMS


class LowRankExperts(LowRankSettings, OfArm):
    """Settings of low-rank factors of chosen experts."""

    takes_experts_alone = True


ARMS.add(
    replace(
        selected_arm("lora-experts", ByMethod("causal"), by_train=False),
        trains=low_rank_experts,
        section=LowRankExperts,
        training_mode="low_rank_experts",
    )
)
