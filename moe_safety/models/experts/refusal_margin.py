"""The refusal margin: how much more a model leans towards the safe answer to a prompt than towards the unsafe one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from moe_safety.models.experts.evaluating import evaluating
from moe_safety.models.text.answer_losses import answer_losses, make_rows, mean_by_row

Tokens = Sequence[int]


@dataclass(frozen=True)
class Trial:
    """A prompt, and the two answers between which the model leans."""

    prompt: Tokens
    safe: Tokens
    unsafe: Tokens

    @property
    def length(self) -> int:
        """The number of tokens in its longer row."""
        return len(self.prompt) + max(len(self.safe), len(self.unsafe))


def margins(model: PreTrainedModel, trials: Sequence[Trial]) -> torch.Tensor:
    """Each trial's refusal margin. The forward pass holds every trial's safe answer, then every trial's unsafe one."""
    device = model.get_input_embeddings().weight.device
    prompts = [trial.prompt for trial in trials]
    answers = [trial.safe for trial in trials] + [trial.unsafe for trial in trials]
    with evaluating(model):
        losses, row = answer_losses(model, make_rows(prompts * 2, answers, device))
    safe, unsafe = (-mean_by_row(losses, row, len(answers))).chunk(2)
    return safe - unsafe
