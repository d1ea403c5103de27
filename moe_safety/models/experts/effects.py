"""What holding one expert back does to the refusal margin: the causal score.

The margin of a prompt is the mean log-probability of the safe answer's tokens minus that of the unsafe answer's, each
after the prompt. An expert's effect is the margin without it minus the margin with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from transformers import PreTrainedModel

from moe_safety import checks
from moe_safety.models.experts.ablation_strategies import Way, choose_way, grouped_margins
from moe_safety.models.experts.interface import adopted
from moe_safety.models.experts.refusal_margin import Tokens, Trial, margins
from moe_safety.models.experts.reweigh import scaled
from moe_safety.models.layout import MoELayout, check_experts, inspect_model

MAX_TOKENS = 32768
"""Tokens of one forward pass."""


def expert_effects(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    safe: Sequence[Tokens],
    unsafe: Sequence[Tokens],
    experts: Iterable[tuple[int, int]] | None = None,
) -> torch.Tensor:
    """The effect of every expert: how the refusal margin of each prompt changes when the expert's output is zeroed.

    `prompts`, `safe` and `unsafe` are equally long lists of token-id lists; the margin is the mean log-probability of
    the `safe` tokens minus that of the `unsafe` tokens, each after the prompt. The expert is held back on every token
    of prompt and answer; routing weights of the others stay as they are. `experts` are the (layer, expert) pairs to
    measure, all unless given. Returns float32 [prompts, MoE layers, experts], NaN where not measured.

    >>> effects = expert_effects(model, [[5, 6], [7]], safe=[[8], [8]], unsafe=[[9, 10], [9]], experts=[(0, 3)])
    >>> effects.shape, int(effects.isfinite().sum())
    (torch.Size([2, 2, 8]), 2)
    """
    layout = inspect_model(model)
    chosen = check_experts(layout, experts) if experts is not None else layout.experts()
    columns = {"prompts": prompts, "safe": safe, "unsafe": unsafe}
    given = {name: checks.token_lists(column, name, model) for name, column in columns.items()}
    for name, column in given.items():
        complaint = f"has {len(column)} rows, and prompts has {len(given['prompts'])}"
        checks.require(len(column) == len(given["prompts"]), name, complaint)
    trials = [Trial(*trial) for trial in zip(*given.values(), strict=True)]
    with adopted(model):
        way = way_of(model, trials, layout)
        return torch.stack([measured_effects(model, trial, chosen, layout, way) for trial in trials])


@torch.inference_mode()
def way_of(model: PreTrainedModel, trials: Sequence[Trial], layout: MoELayout, max_tokens: int = MAX_TOKENS) -> Way:
    """How to hold experts of this model back on these trials."""
    return choose_way(model, layout, max(trials, key=lambda trial: trial.length), max_tokens)


def measured_effects(
    model: PreTrainedModel,
    trial: Trial,
    experts: Sequence[tuple[int, int]],
    layout: MoELayout,
    way: Way,
    max_tokens: int = MAX_TOKENS,
) -> torch.Tensor:
    """float32 [MoE layers, experts] of one trial. Experts share forward passes, each held back in its own rows."""
    return margin_and_effects(model, trial, experts, layout, way, max_tokens)[1]


@torch.inference_mode()
def margin_and_effects(
    model: PreTrainedModel,
    trial: Trial,
    experts: Sequence[tuple[int, int]],
    layout: MoELayout,
    way: Way,
    max_tokens: int,
) -> tuple[float, torch.Tensor]:
    """The margin of the untouched model as well, which every forward pass begins with."""
    effects = torch.full(layout.shape, torch.nan)
    places = sorted((layout.position(layer), expert) for layer, expert in experts)
    held = [(position, [expert]) for position, expert in places]
    found = grouped_margins(model, layout, trial, held, way, max_tokens).tolist()
    for place, (base, without) in zip(places, found, strict=True):
        effects[place] = without - base
    return found[0][0], effects


def first_order_effects(model: PreTrainedModel, trials: Sequence[Trial], layout: MoELayout) -> torch.Tensor:
    """float32 [prompts, MoE layers, experts]: what one backward pass foresees of holding each expert back."""
    return margins_and_first_order(model, trials, layout)[1]


def margins_and_first_order(
    model: PreTrainedModel, trials: Sequence[Trial], layout: MoELayout
) -> tuple[list[float], torch.Tensor]:
    """The margins, and the inner product of each expert's weighted output with the margin's gradient, turned round: the
    slope of the margin in the expert's own scale, followed from one down to zero."""
    device = model.get_input_embeddings().weight.device
    scale = torch.ones(len(trials), *layout.shape, device=device, requires_grad=True)
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    try:
        with scaled(model, layout, scale.repeat(2, 1, 1)):
            found = margins(model, trials)
            found.sum().backward()
    finally:
        for parameter, before in required.items():
            parameter.requires_grad_(before)
    assert scale.grad is not None
    return found.tolist(), -scale.grad.float().cpu()
