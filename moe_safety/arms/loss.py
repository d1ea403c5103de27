"""What a loss is: a pure function of what forward passes gave, and what it reads of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_safety.batches import Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from moe_safety.models.text.answer_losses import Rows


@dataclass(frozen=True)
class TokenLosses:
    """The losses of the target tokens that a forward pass read."""

    losses: torch.Tensor
    """The loss of every target token, in order."""
    row: torch.Tensor
    """The row that each of them stands in."""


def token_losses(model: PreTrainedModel, rows: Rows) -> TokenLosses:
    """Runs the model on rows."""
    from moe_safety.models.text.answer_losses import answer_losses

    return TokenLosses(*answer_losses(model, rows))


def as_it_is(example: Example) -> Sequence[Example]:
    """Reads a row with its target, and nothing else."""
    return (example,)


def learned_tokens(example: Example) -> int:
    """The number of tokens in a row's target."""
    return len(example.target)


@dataclass(frozen=True)
class ForwardPass:
    """What a loss sees of some rows of a batch that were read together."""

    read: Sequence[Sequence[Example]]
    """What was read in place of each of them."""
    now: Any
    """What the loss `measures` of the model."""
    before: Any = None
    """The same of the model as the phase found it, without a gradient; none unless the loss needs it."""
    own: Any = None
    """The arm's own settings; none where it takes none."""
    done: float = 0.0
    """The share of the phase's steps that are done."""


@dataclass(frozen=True)
class Loss:
    """A loss of mixed batches. That of a batch is the sum of `terms` over its rows, which are read in one forward pass
    or in several, divided by the sum of `counts`."""

    name: str
    says: str
    """The formula, in words."""
    terms: Callable[[ForwardPass], torch.Tensor]
    """The sum over the rows of one forward pass."""
    reads: Callable[[Example], Sequence[Example]] = as_it_is
    """What is read in place of a row whose target is learned: with another target, after another opening, or in pairs.
    What belongs to one row stands together, in one forward pass."""
    counts: Callable[[Example], int] = learned_tokens
    """How much one of the batch's own rows counts."""
    measures: Callable[[PreTrainedModel, Rows], Any] = token_losses
    """What is taken of a forward pass: hidden states, where it is not the losses of target tokens."""
    needs_reference: bool = False
    """Whether rows are also read by the model as the phase found it: in the first round, the base."""
    disfavours_answers: bool = False
    """Whether it makes the answers less likely that attacks got. None of them may then be a refusal."""
