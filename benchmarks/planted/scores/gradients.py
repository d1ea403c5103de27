"""Scores from gradients: how much each expert would have to change for the attack to be refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.planted.plant import Planted
from benchmarks.planted.probes import Probes, rows_of
from moe_safety.models.experts import gradient_magnitudes
from moe_safety.models.experts.effects import Trial
from moe_safety.models.text.answer_losses import answer_losses

WHAT = {
    "gradient": "mean |gradient| over the expert's parameters of the loss of the refusal after the attack, mean over"
    " batches",
    "gradient per token": "the same by the tokens that the expert received",
    "gradient L2": "root of the mean square in place of the mean magnitude",
    "gradient per token, first token": "per token; the loss of the refusal's first token alone",
    "gradient, refusal minus compliance": "less the same of the loss of the helpful answer after the attack",
    "gradient, attack minus control": "less the same of the loss of a refusal after wrapped harmless requests",
    "gradient x weight": "|sum of gradient times weight| over the expert's parameters, refusal after the attack",
}


@dataclass(frozen=True)
class _Mean:
    """Over batches, as the `gradients` stage folds them; a mean per token is one over all tokens."""

    absolute: np.ndarray
    l2: np.ndarray
    per_token: np.ndarray


def gradient_scores(model: Planted, probes: Probes) -> dict[str, np.ndarray]:
    refuse = _mean(model, probes.batches("unsafe"), "safe")
    comply = _mean(model, probes.batches("unsafe"), "unsafe")
    refuse_control = _mean(model, probes.batches("control"), "safe")
    opening = [[Trial(one.prompt, one.safe[:1], one.unsafe) for one in batch] for batch in probes.batches("unsafe")]
    return {
        "gradient": refuse.absolute,
        "gradient per token": refuse.per_token,
        "gradient L2": refuse.l2,
        "gradient per token, first token": _mean(model, opening, "safe").per_token,
        "gradient, refusal minus compliance": refuse.absolute - comply.absolute,
        "gradient, attack minus control": refuse.absolute - refuse_control.absolute,
        "gradient x weight": _times_weight(model, probes.trials["unsafe"]),
    }


def _mean(model: Planted, batches: list[list[Trial]], answer: str) -> _Mean:
    found = [gradient_magnitudes(model.model, [rows_of(batch, answer)], layout=model.layout) for batch in batches]
    absolute, l2, tokens = (
        torch.stack(values).flatten(1).numpy()
        for values in zip(*((one.scores(), one.scores_l2(), one.tokens) for one in found), strict=True)
    )
    return _Mean(absolute.mean(axis=0), l2.mean(axis=0), absolute.sum(axis=0) / np.maximum(tokens.sum(axis=0), 1))


def _times_weight(model: Planted, trials: list[Trial]) -> np.ndarray:
    """What the loss would gain, to first order, if all of the expert's weights shrank together."""
    products = torch.zeros(model.layout.shape)
    model.model.zero_grad()
    answer_losses(model.model, rows_of(trials, "safe"))[0].mean().backward()
    for position, layer in enumerate(model.layout.layers):
        for name in layer.parameters:
            weight = model.model.get_parameter(name)
            assert weight.grad is not None
            products[position] += (weight.grad * weight.detach()).sum(dim=(1, 2))
    model.model.zero_grad()
    return products.abs().flatten().numpy()
