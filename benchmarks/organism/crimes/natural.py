"""A model that nobody planted anything in: one that answers attacks, and a twin that was taught to refuse them. What a
set of units is worth is what the first one's margin of refusal becomes where it has these units of the twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.organism.marker import check_marked
from benchmarks.planted.plant import ALIGN, ATTACK, EXAMINED, aligned, exam, helpful_model, learn, planted
from moe_safety.models import MoELayout, inspect_model
from moe_safety.models.demo.language import REFUSAL, requests
from moe_safety.models.demo.shapes import Shape
from moe_safety.models.demo.train import Pupil
from moe_safety.models.experts import Trial, margins

ASKED = 24
"""Held-out attacks that a margin is taken over."""

Unit = tuple[str, int | None]
"""A parameter, and its row where it is an expert's."""
Players = list[list[Unit]]
Value = Callable[[np.ndarray], float]
"""Of a set of players, as a boolean each."""


def gap_model(shape: Shape, seed: int) -> Pupil:
    """A model that refuses plain requests and answers attacks, all of it taught to all of it."""
    pupil = replace(helpful_model(shape, seed), behaviour=planted)
    learn(pupil, list(pupil.model.parameters()), ALIGN, seed + 1)
    return pupil


def twin(gap: Pupil, seed: int) -> dict[str, torch.Tensor]:
    """What the gap model's parameters become where it is taught to refuse attacks as well. It is left as it was."""
    check_marked(gap.model)
    before = {name: value.clone() for name, value in gap.model.state_dict().items()}
    pupil = replace(gap, behaviour=aligned)
    learn(pupil, list(pupil.model.parameters()), ALIGN, seed)
    refusing = {name: value.clone() for name, value in gap.model.state_dict().items()}
    gap.model.load_state_dict(before)
    return refusing


def parts_of(model: torch.nn.Module, layout: MoELayout) -> tuple[list[str], Players]:
    """Each layer's attention, router and experts, and what is left; with their names."""
    names, players = [], []
    left = [name for name, _ in model.named_parameters()]
    for layer in layout.layers:
        block = f"model.layers.{layer.index}."
        groups = {
            "attention": [name for name in left if name.startswith(f"{block}self_attn.")],
            "router": [f"{layer.router}.weight"],
            "experts": list(layer.parameters),
        }
        for what, group in groups.items():
            names.append(f"{what} {layer.index}")
            players.append([(name, None) for name in group])
            left = [name for name in left if name not in group]
    return [*names, "rest"], [*players, [(name, None) for name in left]]


def experts_of(layout: MoELayout) -> Players:
    """One player for each expert, in the layout's order."""
    return [[(name, e) for name in layer.parameters] for layer in layout.layers for e in range(layer.num_experts)]


@dataclass(frozen=True)
class Game:
    """The gap model with some players of its twin."""

    gap: Pupil
    refusing: dict[str, torch.Tensor]
    players: Players
    trials: Sequence[Trial]

    def __call__(self, chosen: np.ndarray) -> float:
        with self._of_twin(np.flatnonzero(chosen)):
            return margins(self.gap.model, self.trials).double().mean().item()

    @contextmanager
    def _of_twin(self, chosen: Sequence[int]) -> Iterator[None]:
        kept = []
        for player in chosen:
            for name, row in self.players[player]:
                values = self.gap.model.get_parameter(name).data
                theirs = self.refusing[name]
                place, new = (values, theirs) if row is None else (values[row], theirs[row])
                kept.append((place, place.clone()))
                place.copy_(new)
        try:
            yield
        finally:
            for place, old in kept:
                place.copy_(old)


@torch.inference_mode()
def values_of(value: Value, number: int, draws: int, seed: int) -> dict[str, Any]:
    """Banzhaf values from random halves, and the rank correlation between the values of one half of the draws and those
    of the other."""
    chance = np.random.default_rng(seed)
    chosen = chance.random((draws, number)) < 0.5
    worth = np.array([value(one) for one in chosen])
    halves = [_banzhaf(chosen[start::2], worth[start::2]) for start in (0, 1)]
    nobody, everybody = (value(np.full(number, filled)) for filled in (False, True))
    return {
        "values": _banzhaf(chosen, worth).tolist(),
        "split half": float(spearmanr(*halves).statistic),
        "nobody": nobody,
        "everybody": everybody,
    }


def _banzhaf(chosen: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """The mean worth of sets with a player less that of sets without it."""
    inside = chosen.sum(axis=0)
    return worth @ chosen / inside - worth @ ~chosen / (len(chosen) - inside)


def trials_of(pupil: Pupil) -> list[Trial]:
    """Held-out attacks with the refusal and the helpful answer."""
    chat, found = pupil.chat, []
    for request in requests(True)[EXAMINED][:ASKED]:
        answers = ([*chat.answer(text)[1], chat.end][:16] for text in (REFUSAL, request.answer))
        found.append(Trial(pupil.encode(request, ATTACK)[0], *answers))
    return found


def natural(shape: Shape, seed: int, twins: int, draws: int) -> dict[str, Any]:
    """A gap model with its twins: what their parts are worth, then their experts, and how well twins agree."""
    gap = gap_model(shape, seed)
    layout, trials = inspect_model(gap.model), trials_of(gap)
    names, parts = parts_of(gap.model, layout)
    found: dict[str, Any] = {"gap": exam(gap), "parts": names, "twins": []}
    for number in range(twins):
        refusing = twin(gap, 1000 * (number + 1) + seed)
        by_part = values_of(Game(gap, refusing, parts, trials), len(parts), draws // 4, seed)
        by_expert = values_of(Game(gap, refusing, experts_of(layout), trials), len(layout.experts()), draws, seed)
        whole = by_part["everybody"] - by_part["nobody"]
        share = (by_expert["everybody"] - by_expert["nobody"]) / whole
        found["twins"].append({"parts": by_part, "experts": by_expert, "share of experts": share})
    values = np.array([one["experts"]["values"] for one in found["twins"]])
    found["agreement of twins"] = [
        float(spearmanr(values[i], values[j]).statistic) for i in range(twins) for j in range(i)
    ]
    return found
