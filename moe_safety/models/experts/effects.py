"""What holding one expert back does to the refusal margin: the causal score.

The margin of a prompt is the mean log-probability of the safe answer's tokens minus that of the unsafe answer's, each
after the prompt. An expert's effect is the margin without it minus the margin with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from moe_safety.models.adopt import adopted
from moe_safety.models.answers import answer_losses, make_rows, mean_by_row
from moe_safety.models.experts.counting import run_counting
from moe_safety.models.experts.weighing import holding_back, scaled
from moe_safety.models.layout import MoELayout, inspect_model

Tokens = Sequence[int]
MAX_TOKENS = 16384
"""Tokens of one forward pass."""


@dataclass(frozen=True)
class Trial:
    """A prompt, and the two answers between which the model leans."""

    prompt: Tokens
    safe: Tokens
    unsafe: Tokens

    @property
    def length(self) -> int:
        """Of its longer row."""
        return len(self.prompt) + max(len(self.safe), len(self.unsafe))


def expert_effects(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    safe: Sequence[Tokens],
    unsafe: Sequence[Tokens],
    experts: Iterable[tuple[int, int]] | None = None,
) -> torch.Tensor:
    """float32 [prompts, MoE layers, experts]; NaN where not measured, outside the (layer, expert) pairs of `experts`.

    The expert is held back on every token of prompt and answer; routing weights of the others stay as they are.
    """
    layout = inspect_model(model)
    chosen = list(experts) if experts is not None else layout.experts()
    trials = [Trial(*trial) for trial in zip(prompts, safe, unsafe, strict=True)]
    with adopted(model):
        return torch.stack([measured_effects(model, trial, chosen, layout) for trial in trials])


@torch.inference_mode()
def measured_effects(
    model: PreTrainedModel,
    trial: Trial,
    experts: Sequence[tuple[int, int]],
    layout: MoELayout,
    max_tokens: int = MAX_TOKENS,
) -> torch.Tensor:
    """float32 [MoE layers, experts] of one trial. Experts share forward passes, each held back in its own rows."""
    effects = torch.full(layout.shape, torch.nan)
    base = float(margins(model, [trial])[0])
    used = _used(model, trial, layout)
    waiting = []
    for layer, expert in experts:
        position = layout.position(layer)
        effects[position, expert] = 0.0  # What it is without tokens, and is replaced by a measurement otherwise.
        if used[position, expert]:
            waiting.append((position, expert))
    together = max(1, max_tokens // (2 * trial.length))
    for start in range(0, len(waiting), together):
        group = waiting[start : start + together]
        held = torch.full((layout.n_moe_layers, len(group)), -1)
        for row, (position, expert) in enumerate(group):
            held[position, row] = expert
        # Rows are all the safe answers, then all the unsafe ones.
        with holding_back(model, layout, held.repeat(1, 2)):
            found = margins(model, [trial] * len(group))
        for (position, expert), margin in zip(group, found.tolist(), strict=True):
            effects[position, expert] = margin - base
    return effects


def first_order_effects(model: PreTrainedModel, trials: Sequence[Trial], layout: MoELayout) -> torch.Tensor:
    """float32 [prompts, MoE layers, experts]: what one backward pass foresees of holding each expert back.

    The inner product of the expert's weighted output with the margin's gradient, turned round: the slope of the margin
    in the expert's own scale, followed from one down to zero.
    """
    device = model.get_input_embeddings().weight.device
    scale = torch.ones(len(trials), *layout.shape, device=device, requires_grad=True)
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    try:
        with scaled(model, layout, scale.repeat(2, 1, 1)):
            margins(model, trials).sum().backward()
    finally:
        for parameter, before in required.items():
            parameter.requires_grad_(before)
    assert scale.grad is not None
    return -scale.grad.float().cpu()


def margins(model: PreTrainedModel, trials: Sequence[Trial]) -> torch.Tensor:
    """Each trial's refusal margin. The forward pass holds every trial's safe answer, then every trial's unsafe one."""
    device = model.get_input_embeddings().weight.device
    prompts = [trial.prompt for trial in trials]
    answers = [trial.safe for trial in trials] + [trial.unsafe for trial in trials]
    was_training = model.training
    model.eval()
    losses, row = answer_losses(model, make_rows(prompts * 2, answers, device))
    model.train(was_training)
    safe, unsafe = (-mean_by_row(losses, row, len(answers))).chunk(2)
    return safe - unsafe


def _used(model: PreTrainedModel, trial: Trial, layout: MoELayout) -> torch.Tensor:
    """Which experts any token of the trial is routed to; the others cannot have an effect."""
    device = model.get_input_embeddings().weight.device
    rows = make_rows([trial.prompt] * 2, [trial.safe, trial.unsafe], device)
    counts = run_counting(model, rows.input_ids, None, torch.ones_like(rows.input_ids, dtype=torch.bool), layout)
    return (counts.counts().sum(dim=0) > 0).cpu()
