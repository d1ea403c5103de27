"""The router phase: routers learn to send the tokens of unsafe prompts where those of safe prompts go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from moe_safety.batches import Batch, Example
from moe_safety.config import KL
from moe_safety.models import MoELayout
from moe_safety.models.decoder import decoder_of
from moe_safety.models.experts import stopping_after_routing
from moe_safety.models.routers import divergence, probabilities, summed_distribution
from moe_safety.models.text.answer_losses import Rows, logits_only_at
from moe_safety.models.transfers import sent
from moe_safety.train.data import micro_batches, rows_of
from moe_safety.train.phases.base import Backward


class RouterPhase:
    """For each batch: KL, layer by layer, between the mean routing of its safe prompts and that of its unsafe ones.

    The divergence is one of means over the whole batch, so micro-batches take two passes: the means first, then each
    one's gradient, weighted by what the divergence says of the means.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layout: MoELayout,
        *,
        form: KL,
        counted: str = "response",
        micro_batch_tokens: int | None = None,
        packed: bool = False,
    ) -> None:
        """`counted` is which tokens count: those of the answer, of the prompt, or all; `packed` rows are not padded."""
        self.model, self.layout = model, layout
        self.form, self.counted, self.budget, self.packed = form, counted, micro_batch_tokens, packed
        self.device = model.get_input_embeddings().weight.device
        spread = any(hasattr(parameter, "ds_id") for parameter in model.parameters())
        again = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        self.whole = spread or again

    def passes(self, batch: Batch | None) -> list[int]:
        return [len(self._groups(batch, label)) for label in ("safe", "unsafe")]

    def run(self, batch: Batch | None, passes: Sequence[int], scale: float, backward: Backward) -> torch.Tensor:
        safe, unsafe = (self._groups(batch, label) for label in ("safe", "unsafe"))
        with torch.no_grad():
            target, _ = self._mean(safe, passes[0])
            now, tokens = self._mean(unsafe, passes[1])
        now.requires_grad_()
        # Without a counted token on one side there is nothing to learn from the other.
        weight = batch.weight if batch and safe and unsafe else 0.0
        loss = divergence(target, now, self.form).mean() * weight
        loss.backward()
        assert now.grad is not None
        for number in range(passes[1]):
            with self._sums(unsafe[number] if number < len(unsafe) else []) as sums:
                backward((sums * now.grad).sum() * (scale / tokens if number < len(unsafe) else 0.0))
        return loss.detach().double()

    def tokens(self, batch: Batch) -> int:
        once, twice = (
            sum(len(row) for group in self._groups(batch, label) for row in group) for label in ("safe", "unsafe")
        )
        return once + 2 * twice

    def active(self, batch_idx: int) -> int:
        return 0

    def _groups(self, batch: Batch | None, label: str) -> list[list[Example]]:
        counted = [example for example in batch.of(label) if self._span(example)] if batch else []
        return micro_batches(counted, self.budget, packed=self.packed)

    def _span(self, example: Example) -> range:
        """The counted places of a row."""
        start, end = len(example.prompt), len(example)
        return {"response": range(start, end), "prompt": range(start), "all": range(end)}[self.counted]

    def _mean(self, groups: Sequence[Sequence[Example]], passes: int) -> tuple[torch.Tensor, int]:
        """The mean distribution of each layer, and over how many tokens it is one."""
        total = torch.zeros(self.layout.shape, device=self.device)
        for number in range(passes):
            with self._sums(groups[number] if number < len(groups) else []) as sums:
                total = total + sums
        tokens = sum(len(self._span(example)) for group in groups for example in group)
        # Without a token, some distribution that the divergence can take.
        return (total / tokens, tokens) if tokens else (torch.full_like(total, 1 / total.shape[1]), 1)

    @contextmanager
    def _sums(self, examples: Sequence[Example]) -> Iterator[torch.Tensor]:
        """The distributions of each layer, summed over counted tokens. Inside, routers go on being listened to: a
        checkpointed layer runs again in the backward pass, and must do the same."""
        rows = rows_of(examples, self.device, self.packed)
        counted = torch.zeros(rows.input_ids.shape, dtype=torch.bool)
        for row, example in enumerate(examples):
            span = self._span(example)
            counted.view(-1)[rows.place(row, span.start) : rows.place(row, span.stop)] = True
        with probabilities(self.model, self.layout) as seen:
            nothing = self._run_whole(rows) if self.whole else self._run(rows)
            yield summed_distribution(seen.layers, sent(counted, self.device)) + nothing

    def _run(self, rows: Rows) -> float:
        with stopping_after_routing(self.model, self.layout):
            decoder_of(self.model)(**rows.inputs, use_cache=False)
        return 0.0

    def _run_whole(self, rows: Rows) -> torch.Tensor:
        """A zero that hangs on the model's output. ZeRO-3 keeps a list of the modules at work, so every forward pass
        must come to its end, and every backward pass through its modules has to start there. A checkpointed layer that
        runs again must find what it found before, and so cannot have been cut off."""
        with logits_only_at(self.model, lambda hidden: hidden[:, :1]):
            return 0 * self.model(**rows.inputs, use_cache=False).logits.sum()
