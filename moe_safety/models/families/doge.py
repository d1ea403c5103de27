"""Doge mixes tokens where it routes them."""

from __future__ import annotations

from moe_safety.models.families.family import FAMILIES, Family

_REFUSAL = "doge mixes the router scores of different tokens, so no expert can be counted for a prompt"
FAMILIES.add(Family("doge", refusal=_REFUSAL))
