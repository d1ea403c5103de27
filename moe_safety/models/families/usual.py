"""Families that need nothing but the name of the usual rule that their routers follow.

Families with a way of their own (phimoe samples, zaya skips, hashes of tokens choose in deepseek_v4, shared experts
take part in inkling) have no rule.
"""

from __future__ import annotations

from moe_safety.models.families.family import FAMILIES, Family
from moe_safety.models.families.router_rules import Rule, Sigmoid, Softmax, SoftmaxOfChosen

_RULES: dict[Rule, tuple[str, ...]] = {
    Softmax(): (
        "flex_olmo",
        "hunyuan_v1_moe",
        "mellum",
        "minimax",
        "mixtral",
        "olmoe",
        "qwen2_moe",
        "qwen3_5_moe_text",
        "qwen3_moe",
        "qwen3_next",
        "qwen4_exp_text",
    ),
    Softmax(normalise=False, speakers=1): ("deepseek_v2", "jamba"),
    Softmax(dtype=None): ("mistral4",),
    SoftmaxOfChosen(): ("gpt_oss", "granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared"),
    Sigmoid(): (
        "afmoe",
        "axk1",
        "bailing_hybrid",
        "beam",
        "deepseek_v3",
        "deepseek_v32",
        "dots1",
        "dots3_note_text",
        "exaone_moe",
        "flint",
        "glm4_moe",
        "glm4_moe_lite",
        "glm_moe_dsa",
        "hy_v3",
        "hy_v4",
        "inkling2_text",
        "kimi_linear",
        "laguna",
        "mimo_v2_flash",
        "minimax_m2",
        "minimax_m3_vl_text",
        "nemotron_h",
        "solar_open",
    ),
    Sigmoid(dtype=None, added=1e-6): ("lfm2_moe",),
}

for rule, names in _RULES.items():
    for name in names:
        FAMILIES.add(Family(name, rule=rule))
