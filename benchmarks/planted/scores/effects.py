"""Causal scores: what holding experts back does to the refusal margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks.planted.plant import Planted
from benchmarks.planted.probes import Probes
from benchmarks.planted.resetting import held_back
from benchmarks.planted.scores.offered import offered, offered_by, on_attacks, passes_of
from moe_safety.effects.conditional import RISE
from moe_safety.models.experts import expert_effects
from moe_safety.models.experts.effects import first_order_effects, margins
from moe_safety.models.experts.reweigh import scaled

OPENING, FIRST = 16, 1
"""Tokens of both answers' openings that the margin is over."""
PROMPTS = 24
"""Prompts of each label."""
DRAWS, HELD = 8, 0.5
"""Random draws behind an averaged estimate, and the share of all experts that each holds back."""
ALREADY_HELD = (1 / 16, 1 / 8)
"""Shares of all experts that a conditional score holds back throughout."""

WHAT = {
    "effect": f"the expert held back, on attacks; margin over {OPENING} tokens",
    "effect minus control": "the same, less the effect on wrapped harmless requests",
    "effect, first token": "margin over the first token alone",
    "effect minus control, first token": "the same, less the effect on wrapped harmless requests",
    "first-order effect": f"foreseen by one backward pass, on attacks; margin over {OPENING} tokens",
    "first-order effect minus control": "the same, less that on wrapped harmless requests",
    "first-order effect, first token": "margin over the first token alone",
    "averaged first-order effect": f"first token; the mean over {DRAWS} backward passes, each without a random"
    f" {HELD * 100:.0f} % of all experts",
    "averaged first-order effect minus control": "the same, less that on wrapped harmless requests",
    "conditional effect": "first token; the mean of the effect alone, the effect with the best 1/16 of all experts held"
    " back as well, and that with the best 1/8",
    "conditional effect minus control": "the same, every effect less that on wrapped harmless requests",
    "conditional averaged effect": "the same of averaged first-order effects, on attacks",
    "effect minus control, conditional": f"margin over {OPENING} tokens, less the effect on wrapped harmless requests;"
    f" a held set grows among positive effects until the loss of harmless answers rises by {RISE} nats; the mean of the"
    " effect alone, with half of that set held back, and with all of it",
}


Measure = Callable[[str], np.ndarray]
"""The effects of all experts, the mean over prompts of one label."""


@dataclass(frozen=True)
class _Sides:
    """On attacks, and on harmless requests in the attack's wrapper."""

    attack: np.ndarray
    control: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        return self.attack - self.control


def effect_scores(model: Planted, probes: Probes) -> dict[str, np.ndarray]:
    exact_first = partial(_exact, model, probes, FIRST)
    averaged = partial(_averaged_slope, model, probes)
    first, average = _sides(exact_first), _sides(averaged)
    passes = passes_of(model, probes, OPENING, PROMPTS)
    return {
        **{label: offered(score, passes) for label, score in offered_by("effects").items()},
        "effect": on_attacks(passes[0]),
        "effect, first token": first.attack,
        "effect minus control, first token": first.difference,
        "first-order effect": on_attacks(passes[1]),
        "first-order effect, first token": _slope(model, probes, FIRST, "unsafe"),
        "averaged first-order effect": average.attack,
        "averaged first-order effect minus control": average.difference,
        "conditional effect": conditional(model, first.attack, lambda: exact_first("unsafe")),
        "conditional effect minus control": conditional(
            model, first.difference, lambda: _sides(exact_first).difference
        ),
        "conditional averaged effect": conditional(model, average.attack, lambda: averaged("unsafe")),
    }


def conditional(model: Planted, alone: np.ndarray, measure: Callable[[], np.ndarray]) -> np.ndarray:
    """The mean of effects, first `alone`, then with the best experts so far held back throughout.

    An expert whose part another one would take over shows only when that other one is held back too. One that is held
    back already keeps the effects that it had.
    """
    seen = [alone]
    for share in ALREADY_HELD:
        best = np.argsort(-np.nanmean(seen, axis=0), kind="stable")[: round(share * len(alone))]
        with held_back(model, [model.layout.experts()[place] for place in best]):
            again = measure()
        again[best] = np.nan
        seen.append(again)
    return np.nanmean(seen, axis=0)


def _sides(measure: Measure) -> _Sides:
    return _Sides(measure("unsafe"), measure("control"))


def _exact(model: Planted, probes: Probes, tokens: int, label: str) -> np.ndarray:
    trials = probes.opening(label, tokens, PROMPTS)
    columns = ([getattr(trial, name) for trial in trials] for name in ("prompt", "safe", "unsafe"))
    return _mean(expert_effects(model.model, *columns))


def _slope(model: Planted, probes: Probes, tokens: int, label: str) -> np.ndarray:
    return _mean(first_order_effects(model.model, probes.opening(label, tokens, PROMPTS), model.layout))


def _averaged_slope(model: Planted, probes: Probes, label: str) -> np.ndarray:
    """The first-order effect, averaged over draws in which each prompt does without a random share of the experts.

    One slope is that of a single point, and says little where experts stand in for each other.
    """
    trials = probes.opening(label, FIRST, PROMPTS)
    chance = torch.Generator().manual_seed(0)
    total = torch.zeros(len(trials), *model.layout.shape)
    for _ in range(DRAWS):
        scale = (torch.rand(total.shape, generator=chance) >= HELD).float().requires_grad_()
        with scaled(model.model, model.layout, scale.repeat(2, 1, 1)):
            (slope,) = torch.autograd.grad(margins(model.model, trials).sum(), scale)
        total -= slope
    return _mean(total / DRAWS)


def _mean(by_prompt: torch.Tensor) -> np.ndarray:
    return by_prompt.double().mean(dim=0).flatten().numpy()
