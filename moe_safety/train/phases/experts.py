"""The expert phase: the arm's loss of a batch, felt by the experts of its mask, or by whatever else the arm trains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from moe_safety.arms import ANSWERS, ForwardPass, Loss, token_losses
from moe_safety.batches import Batch, Example
from moe_safety.errors import RunError
from moe_safety.models import MoELayout
from moe_safety.models.experts import Pair, SelectiveExperts, stopping_after_routing
from moe_safety.models.routers import preferring, recording, replaying
from moe_safety.models.text.answer_losses import Rows, answer_losses
from moe_safety.train.data import micro_batches, rows_of
from moe_safety.train.phases.base import Backward


class ExpertPhase:
    """The phase in which experts, or whatever the arm trains, learn by its loss."""

    def __init__(
        self,
        model: PreTrainedModel,
        layout: MoELayout,
        stack: ExitStack,
        *,
        loss: Loss = ANSWERS,
        own: Any = None,
        selective: SelectiveExperts | None,
        remember: Callable[[], Callable[[], AbstractContextManager[object]]] | None = None,
        masks: dict[int, list[Pair]],
        masking: Literal["gradient", "routing", "union"] = "gradient",
        replay: bool = False,
        labels: Collection[str] | None = None,
        micro_batch_tokens: int | None = None,
        packed: bool = False,
    ) -> None:
        """`stack` holds what must be undone at the end; `own` are the arm's own settings; `selective` is none where it
        does not train experts; `remember` keeps the model as it is now, for a loss that also asks that; `labels` are
        the kinds of row that are learned, all of them unless given; `packed` rows are not padded."""
        self.model, self.layout, self.selective = model, layout, selective
        self.loss, self.own, self.masks, self.masking, self.budget = loss, own, masks, masking, micro_batch_tokens
        self.device = model.get_input_embeddings().weight.device
        everyone = torch.ones(layout.shape, dtype=torch.bool)
        self.preference = stack.enter_context(preferring(model, layout, everyone)) if masking == "routing" else None
        self.replay, self.labels, self.packed = replay, labels, packed
        if selective and replay:
            selective.remember()
        self.as_before = remember() if remember and loss.needs_reference else None

    def passes(self, batch: Batch | None) -> list[int]:
        return [len(self._groups(self._learned(batch)))]

    def run(self, batch: Batch | None, passes: Sequence[int], scale: float, backward: Backward) -> torch.Tensor:
        self._set_mask(batch)
        learned = self._learned(batch)
        groups = self._groups(learned)
        if batch and sorted(map(id, chain.from_iterable(groups))) != sorted(map(id, learned)):
            raise RunError(f"the micro-batches of batch {batch.batch_idx} do not hold each of its rows once")
        counted = sum(map(self.loss.counts, learned))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for number in range(passes[0]):
            read = [self.loss.reads(row) for row in groups[number]] if number < len(groups) else []
            rows = rows_of(list(chain.from_iterable(read)), self.device, self.packed)
            with self._routes(rows):
                loss = self._loss(read, rows, batch.done if batch else 0.0)
                loss = loss * (batch.weight / counted) if batch and read and counted else loss * 0
                backward(loss * scale)
            total = total + loss.detach().to(total.device)
        return total

    def tokens(self, batch: Batch) -> int:
        read = sum(len(one) for row in self._learned(batch) for one in self.loss.reads(row))
        return read * (1 + self.loss.needs_reference + (self.replay and self.selective is not None))

    def active(self, batch_idx: int) -> int:
        if self.selective is None:
            return len(self.layout.experts())
        return len(self.selective.experts if self.masking == "union" else self.masks[batch_idx])

    def _loss(self, read: list[Sequence[Example]], rows: Rows, done: float) -> torch.Tensor:
        """Of these rows of a batch; of idle ones, something that means nothing and has a gradient."""
        if not read:
            return token_losses(self.model, rows).losses.sum()
        before = None
        if self.as_before:
            with torch.no_grad(), self.as_before():
                before = self.loss.measures(self.model, rows)
        return self.loss.terms(ForwardPass(read, self.loss.measures(self.model, rows), before, self.own, done))

    def _groups(self, rows: list[Example]) -> list[list[Example]]:
        """What is read of a row may be longer than the row itself."""

        def size(row: Example) -> int:
            read = self.loss.reads(row)
            return sum(map(len, read)) if self.packed else len(read) * max(map(len, read))

        return micro_batches(rows, self.budget, size, self.packed)

    def _learned(self, batch: Batch | None) -> list[Example]:
        """The rows whose targets are learned."""
        return [row for row in batch.examples if self.labels is None or row.label in self.labels] if batch else []

    def _set_mask(self, batch: Batch | None) -> None:
        """The mask is set anew for each batch, and read back: a mask that nothing reads would freeze nothing."""
        if self.selective is None:
            return
        mask: list[Pair] = self.masks[batch.batch_idx] if batch else []
        if batch and self.masking == "union":
            mask = self.selective.experts
        self.selective.set_active(mask)
        if sorted(self.selective.active()) != sorted(mask):
            raise RunError(f"the active experts are not the mask of batch {batch.batch_idx if batch else 'none'}")
        if self.preference:
            self.preference.set(self._preferred(mask))

    def _preferred(self, mask: Sequence[Pair]) -> torch.Tensor:
        preferred = torch.zeros(self.layout.shape, dtype=torch.bool)
        for layer, expert in mask:
            preferred[self.layout.position(layer), expert] = True
        return preferred

    @contextmanager
    def _routes(self, rows: Rows) -> Iterator[None]:
        """With `replay`, holds tokens to the choices of the phase's first model; also in the backward pass, where
        checkpointing runs layers again."""
        if not (self.replay and self.selective):
            yield
            return
        with (
            torch.no_grad(),
            self.selective.as_remembered(),
            recording(self.model, self.layout) as chosen,
            stopping_after_routing(self.model, self.layout),
        ):
            answer_losses(self.model, rows)
        with replaying(self.model, self.layout, chosen.layers):
            yield
