"""DBRX keeps its experts in flat matrices."""

from __future__ import annotations

from moe_safety.models.families.family import FAMILIES, Family

_REFUSAL = "dbrx keeps its experts in flat matrices that the experts interface of transformers does not reach"
FAMILIES.add(Family("dbrx", refusal=_REFUSAL))
