"""Scores from gradients: how much each expert would have to change for the attack to be refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from benchmarks.planted.plant import Planted
from benchmarks.planted.probes import Probes, rows_of
from benchmarks.planted.scores.offered import offered_by
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


def gradient_scores(model: Planted, probes: Probes) -> dict[str, np.ndarray]:
    refuse = _mean(model, probes.batches("unsafe"), "safe")
    comply = _mean(model, probes.batches("unsafe"), "unsafe")
    refuse_control = _mean(model, probes.batches("control"), "safe")
    opening = [[Trial(one.prompt, one.safe[:1], one.unsafe) for one in batch] for batch in probes.batches("unsafe")]
    return {
        **{label: score.of_table(refuse) for label, score in offered_by("gradients").items()},
        "gradient per token, first token": _mean(model, opening, "safe")["gradient_per_token"].to_numpy(),
        "gradient, refusal minus compliance": (refuse - comply)["gradient"].to_numpy(),
        "gradient, attack minus control": (refuse - refuse_control)["gradient"].to_numpy(),
        "gradient x weight": _times_weight(model, probes.trials["unsafe"]),
    }


def _mean(model: Planted, batches: list[list[Trial]], answer: str) -> pd.DataFrame:
    """Over batches, as the `gradients` stage folds them; a mean per token is one over all tokens."""
    found = [gradient_magnitudes(model.model, [rows_of(batch, answer)], layout=model.layout) for batch in batches]
    absolute, l2, tokens = (
        torch.stack(values).flatten(1).numpy()
        for values in zip(*((one.scores(), one.scores_l2(), one.tokens) for one in found), strict=True)
    )
    per_token = absolute.sum(axis=0) / np.maximum(tokens.sum(axis=0), 1)
    return pd.DataFrame(
        {"gradient": absolute.mean(axis=0), "gradient_l2": l2.mean(axis=0), "gradient_per_token": per_token}
    )


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
