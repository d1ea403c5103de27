"""What a model thinks of given answers: log-probabilities and losses of answer tokens, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from moe_safety.models.text.encode import pad_right

IGNORED = -100
"""The label of a token that is not part of an answer."""


@dataclass(frozen=True)
class Rows:
    """Prompts with answers, padded on the right; `labels` holds the answers' tokens at their own places."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor | None = None
    """Needed only where padding stands on the left."""
    lengths: torch.Tensor | None = None
    """How many tokens each row has before its padding on the right; no padding unless given."""

    @property
    def real(self) -> torch.Tensor:
        """Where a token stands, and no padding."""
        if self.attention_mask is not None:
            return self.attention_mask.bool()
        if self.lengths is None:
            return torch.ones_like(self.input_ids, dtype=torch.bool)
        return torch.arange(self.input_ids.shape[1], device=self.input_ids.device) < self.lengths[:, None]


def make_rows(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], device: torch.device | str = "cpu"
) -> Rows:
    """One row for each prompt and its answer."""
    ids = pad_right([[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)], device)
    labels = torch.full(ids.shape, IGNORED)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        labels[row, len(prompt) : len(prompt) + len(answer)] = torch.as_tensor(answer)
    lengths = torch.tensor([len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True)])
    return Rows(ids, labels.to(device), lengths=lengths.to(device))


def answer_losses(model: PreTrainedModel, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, in float32 or finer, of every answer token, in order, and the row it stands in.

    Logits are computed where an answer's token is predicted and nowhere else.
    """
    predicts = (rows.labels != IGNORED).roll(-1, dims=1)
    predicts[:, -1] = False
    # Asked before the model runs: a GPU would be waited for, and then wait itself.
    where = predicts.nonzero(as_tuple=True)
    place: dict[str, torch.Tensor] = {}
    if rows.attention_mask is not None:
        positions = (rows.attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        place = {"attention_mask": rows.attention_mask, "position_ids": positions}
    with logits_only_at(model, lambda hidden: hidden[tuple(each.to(hidden.device) for each in where)][None]):
        logits = model(input_ids=rows.input_ids, use_cache=False, **place).logits[0]
    targets = rows.labels.roll(-1, dims=1)[where]
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(precise, targets, reduction="none"), where[0]


def mean_by_row(values: torch.Tensor, row: torch.Tensor, rows: int) -> torch.Tensor:
    """Each row's mean; 0 for a row without values."""
    total = torch.zeros(rows, dtype=values.dtype, device=values.device).index_add_(0, row, values)
    return total / torch.bincount(row, minlength=rows).clamp(min=1)


@contextmanager
def logits_only_at(model: PreTrainedModel, choose: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Inside, the language-model head sees only what `choose` takes of its input."""

    def only(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden, *rest = args
        return choose(hidden), *rest

    handle = model.get_output_embeddings().register_forward_pre_hook(only)
    try:
        yield
    finally:
        handle.remove()
