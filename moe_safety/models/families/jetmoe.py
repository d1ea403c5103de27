"""JetMoE routes its attention, too."""

from __future__ import annotations

from moe_safety.models.families.family import FAMILIES, Family

_REFUSAL = "jetmoe routes its attention through experts too, outside the experts interface of transformers"
FAMILIES.add(Family("jetmoe", refusal=_REFUSAL))
