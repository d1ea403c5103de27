"""Zaya lets a token skip the experts; its router then names expert 0 with a weight of exactly zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from moe_safety.models.families.base import Family

if TYPE_CHECKING:
    from moe_safety.models.layout import MoELayer


class Zaya(Family):
    def routing_of(
        self, layer: MoELayer, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A token that skips goes to no expert."""
        index, weights = super().routing_of(layer, args, kwargs)
        return index.masked_fill(weights == 0, layer.num_experts), weights
