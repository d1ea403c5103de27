"""Zaya lets a token skip the experts; its router then names expert 0 with a weight of exactly zero."""

from __future__ import annotations

from moe_safety.models.families.family import FAMILIES, Family

FAMILIES.add(Family("zaya", is_no_expert=lambda index, weights, num_experts: weights == 0))
