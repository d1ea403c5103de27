"""Which rule each family follows."""

from __future__ import annotations

from transformers import PreTrainedModel

from moe_safety.errors import InputError
from moe_safety.models.choosing.rules import Ernie, Gemma4, Rule, Sigmoid, Softmax, SoftmaxOfChosen
from moe_safety.models.decoder import decoder_of

_FAMILIES: dict[Rule, tuple[str, ...]] = {
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
    Ernie(): ("ernie4_5_moe",),
    Gemma4(): ("gemma4_text",),
}

RULES: dict[str, Rule] = {family: rule for rule, families in _FAMILIES.items() for family in families}
"""By the model type of the decoder. Families with a way of their own (phimoe samples, zaya skips, hashes of tokens
choose in deepseek_v4, shared experts take part in inkling) are left out."""


def rule_of(model: PreTrainedModel) -> Rule:
    """How the model's routers choose."""
    family = decoder_of(model).config.model_type
    if family not in RULES:
        raise InputError(f"how {family} routers choose experts is not known here, so nothing can prefer or avoid any")
    return RULES[family]
