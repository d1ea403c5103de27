"""An engine: of several sampled answers the one that the model itself finds likeliest, by transformers' `generate`."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from moe_safety.config import ModelConfig, Section
from moe_safety.generation import Answer, Limits
from moe_safety.generation.engines.hf import Transformers


class Sampling(Section):
    n: int = Field(4, ge=1)
    """How many answers are sampled of each prompt, where its temperature is above 0."""


class BestOfN(Transformers):
    """Everything else it does as `transformers` does."""

    name = "best-of-n"
    section = Sampling

    def __init__(self, model: ModelConfig, limits: Limits, gpus: int, settings: Any = None) -> None:
        super().__init__(model, limits, gpus)
        self.n = settings.n

    def answer(
        self, prompts: Sequence[Sequence[int]], temperatures: Sequence[float], seeds: Sequence[int]
    ) -> list[Answer]:
        best = super().answer(prompts, temperatures, seeds)
        if not any(temperatures):  # Greedy answers are all the same.
            return best
        known = self._nats(prompts, best)
        for number in range(1, self.n):
            more = super().answer(prompts, temperatures, [_another(seed, number) for seed in seeds])
            for place, (answer, nats) in enumerate(zip(more, self._nats(prompts, more), strict=True)):
                if nats > known[place]:
                    best[place], known[place] = answer, nats
        return best

    def _nats(self, prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> list[float]:
        """The mean log-probability of each answer's tokens; an empty answer is the least likely."""
        before = [[*prompt, *answer.prefix] for prompt, answer in zip(prompts, answers, strict=True)]
        losses, row = self.losses(before, [answer.tokens for answer in answers])
        own = [losses[row == place] for place in range(len(answers))]
        return [-float(each.mean()) if len(each) else -math.inf for each in own]


def _another(seed: int, number: int) -> int:
    """An answer hangs on its own seed alone, and so do those that it is chosen from."""
    return random.Random(f"{seed}:{number}").getrandbits(62)
