"""What a model thinks of given answers: log-probabilities and losses of answer tokens, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from moe_safety.models.transfers import sent

IGNORED = -100
"""The label of a token that is not part of an answer."""


@dataclass(frozen=True)
class Rows:
    """Prompts with answers; `labels` holds the answers' tokens at their own places, and may wait on the host. They are
    padded on the right, or packed: end to end in one line of tokens."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    attention_mask: torch.Tensor | None = None
    """Needed only where padding stands on the left."""
    lengths: torch.Tensor | None = None
    """How many tokens each row has before its padding on the right; no padding unless given."""
    packed: Packed | None = None
    """Where the rows stand, if they are packed."""

    @property
    def real(self) -> torch.Tensor:
        """Where a token stands, and no padding."""
        if self.attention_mask is not None:
            return self.attention_mask.bool()
        if self.lengths is None or self.packed:
            return torch.ones_like(self.input_ids, dtype=torch.bool)
        return torch.arange(self.input_ids.shape[1], device=self.input_ids.device) < self.lengths[:, None]

    @property
    def inputs(self) -> dict[str, Any]:
        """What the model is called with."""
        if self.packed:
            return {"input_ids": self.input_ids} | self.packed.inputs
        if self.attention_mask is None:
            return {"input_ids": self.input_ids}
        positions = (self.attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, "position_ids": positions}

    def place(self, row: int, token: int) -> int:
        """Of a row's token among all, padding on the right included."""
        start = int(self.packed.starts[row]) if self.packed else row * self.input_ids.shape[1]
        return start + token

    def answers(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of every answer token, in order: the place, over all rows, where it is predicted; the token; its row."""
        answered = self.labels != IGNORED
        answered[:, 0] = False
        if self.packed:
            answered[0, self.packed.starts] = False
        place = answered.flatten().nonzero()[:, 0]
        starts = self.packed.starts if self.packed else None
        row = place // answered.shape[1] if starts is None else torch.searchsorted(starts, place, right=True) - 1
        return place - 1, self.labels.flatten()[place], row


@dataclass(frozen=True)
class Packed:
    """How rows stand end to end."""

    starts: torch.Tensor
    """Where each row begins; on the host."""
    inputs: dict[str, Any]
    """What the model is told of it, in transformers' words."""

    @classmethod
    def of(cls, lengths: torch.Tensor, device: torch.device | str) -> Packed:
        """Rows of these lengths, in their order."""
        ends = lengths.cumsum(0)
        starts, longest = ends - lengths, int(lengths.max())
        positions = torch.arange(int(ends[-1])) - starts.repeat_interleave(lengths)
        limits = sent(torch.cat((starts[:1], ends)).int(), device)
        told = dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), limits)
        most = dict.fromkeys(("max_length_q", "max_length_k"), longest)
        return cls(starts, {**told, "position_ids": sent(positions[None], device), **most})

    def places(self, width: int) -> torch.Tensor:
        """For rows padded on the right to this width, row by row: where each token stands in the line. Padding is given
        some token's place."""
        positions = self.inputs["position_ids"]
        places = (self.starts[:, None] + torch.arange(width)).clamp(max=positions.shape[1] - 1)
        return sent(places.flatten(), positions.device)


def make_rows(
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    device: torch.device | str = "cpu",
    *,
    packed: bool = False,
) -> Rows:
    """One row for each prompt and its answer."""
    both = list(zip(prompts, answers, strict=True))
    lengths = torch.tensor([len(prompt) + len(answer) for prompt, answer in both])
    ids = [torch.tensor([*prompt, *answer], dtype=torch.long) for prompt, answer in both]
    labels = [torch.tensor([IGNORED] * len(prompt) + [*answer], dtype=torch.long) for prompt, answer in both]
    if not packed:
        padded = (pad_sequence(each, True, value) for each, value in ((ids, 0), (labels, IGNORED)))
        return Rows(sent(next(padded), device), next(padded), lengths=sent(lengths, device))
    return Rows(
        sent(torch.cat(ids)[None], device),
        torch.cat(labels)[None],
        lengths=sent(lengths, device),
        packed=Packed.of(lengths, device),
    )


def answer_losses(model: PreTrainedModel, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, in float32 or finer, of every answer token, in order, and the row it stands in."""
    logits, token, row = answer_logits(model, rows)
    return cross_entropy(logits, token, reduction="none"), row


def answer_logits(model: PreTrainedModel, rows: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of every answer token, in order: the logits, in float32 or finer, that it is predicted by; the token; its row.

    Logits are computed where an answer's token is predicted and nowhere else.
    """
    # Asked of the host, and before the model runs: a GPU would be waited for, and then wait itself.
    place, token, row = (each if each.is_cuda else sent(each, rows.input_ids.device) for each in rows.answers())

    def only(hidden: torch.Tensor) -> torch.Tensor:
        return hidden.flatten(0, 1).index_select(0, place.to(hidden.device))[None]

    with logits_only_at(model, only):
        logits = model(**rows.inputs, use_cache=False).logits[0]
    precise = logits if logits.dtype == torch.float64 else logits.float()
    return precise, token.to(logits.device), row.to(logits.device)


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

    with model.get_output_embeddings().register_forward_pre_hook(only):
        yield
