"""How fast to learn, and when."""

from __future__ import annotations

import math

from moe_safety.config import TrainConfig


def learning_rate(peak: float, step: int, steps: int, settings: TrainConfig) -> float:
    """The rate of step `step` of `steps`, counted from 0: it rises over the warm-up, then follows the schedule."""
    warm = math.ceil(settings.warmup_ratio * steps)
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if settings.schedule == "linear":
        return peak * (1 - done)
    if settings.schedule == "cosine":
        return peak * (1 + math.cos(math.pi * done)) / 2
    return peak
