"""How much the loss wants each expert to change: the magnitude of its gradient, expert by expert."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from transformers import PreTrainedModel

from moe_safety import checks
from moe_safety.models.experts.activation_checkpointing import checkpointed
from moe_safety.models.experts.counting import counting
from moe_safety.models.experts.evaluating import evaluating
from moe_safety.models.experts.interface import adopted
from moe_safety.models.hooks import hooked
from moe_safety.models.kernels import card, formulas
from moe_safety.models.layout import MoELayout, inspect_model
from moe_safety.models.text.answer_losses import IGNORED, Rows, answer_losses


@dataclass
class Magnitudes:
    """Sums over all parameters of each expert, float64 [MoE layers, experts]."""

    layout: MoELayout
    absolute: torch.Tensor = field(init=False)
    square: torch.Tensor = field(init=False)
    tokens: torch.Tensor = field(init=False)
    """Tokens that each expert received, padding left out."""

    def __post_init__(self) -> None:
        self.absolute, self.square, self.tokens = (torch.zeros(self.layout.shape, dtype=torch.float64) for _ in "123")
        self._sums: list[tuple[int, torch.Tensor]] = []

    def add(self, position: int, gradient: torch.Tensor) -> None:
        """Uses the gradient up: it is about to be freed, and needs no copy."""
        experts = self.layout.layers[position].num_experts
        # A row is added up in float32 or finer, rows, the many, in float64.
        rows = gradient[:experts].flatten(0, -2)
        sums, norms = (card.kernels(rows) or formulas).magnitudes(rows)
        both = torch.stack((sums.double(), norms.double().square()))
        self._sums.append((position, both.view(2, experts, -1).sum(dim=-1)))

    def collect(self) -> None:
        """Takes what `add` left on the device, which is not waited for before."""
        for position, sums in self._sums:
            absolute, square = sums.cpu()
            self.absolute[position, : len(absolute)] += absolute
            self.square[position, : len(square)] += square
        self._sums.clear()

    def scores(self) -> torch.Tensor:
        """Mean absolute gradient over an expert's parameters."""
        return self.absolute / self._sizes()

    def scores_l2(self) -> torch.Tensor:
        """Root of the mean squared gradient over an expert's parameters."""
        return (self.square / self._sizes()).sqrt()

    def _sizes(self) -> torch.Tensor:
        return torch.tensor([[layer.parameters_per_expert] for layer in self.layout.layers], dtype=torch.float64)


def expert_gradients(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The gradient magnitude of every expert: mean |gradient| under the mean loss of the batch's answer tokens.

    `batch` holds `input_ids`, `attention_mask` and `labels` [rows, length]; labels are -100 where nothing is learned.
    Returns float64 [MoE layers, experts]. The model is as it was afterwards.

    >>> ids = torch.tensor([[5, 6, 7, 8]])
    >>> batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([[-100, -100, 7, 8]])}
    >>> expert_gradients(model, batch).shape
    torch.Size([2, 8])
    """
    checks.a_model(model)
    checks.entries(batch, "batch", ("input_ids", "attention_mask", "labels"))
    ids, labels, mask = batch["input_ids"], batch["labels"], batch["attention_mask"]
    checks.token_ids(ids, "input_ids", model)
    checks.mask(mask, "attention_mask", ids)
    checks.labels(labels, "labels", ids, IGNORED, model)
    checks.require(not ((labels != IGNORED) & (mask == 0)).any(), "labels", "names tokens that attention_mask hides")
    rows = Rows(ids, labels, mask)
    with adopted(model):
        return gradient_magnitudes(model, [rows]).scores()


def gradient_magnitudes(
    model: PreTrainedModel,
    micro_batches: Sequence[Rows],
    *,
    layout: MoELayout | None = None,
    checkpointing: bool = False,
) -> Magnitudes:
    """The magnitudes of one batch's gradient.

    With a single micro-batch each fused gradient is reduced and freed as it arrives, so memory stays near one layer's.
    With several the gradients are kept until all are added up: the magnitude of a sum is not a sum of magnitudes.
    """
    layout = layout or inspect_model(model)
    found, tokens = Magnitudes(layout), list[torch.Tensor]()
    answered = sum(len(rows.answers()[0]) for rows in micro_batches)
    with ExitStack() as stack:
        parameters = stack.enter_context(_only_experts_learn(model, layout))
        if checkpointing:
            stack.enter_context(checkpointed(model))
        for number, rows in enumerate(micro_batches):
            with ExitStack() as inner:
                if number == len(micro_batches) - 1:
                    inner.enter_context(_reduced_on_arrival(parameters, found))
                counts = inner.enter_context(counting(model, rows.real, layout))
                losses, _ = answer_losses(model, rows)
                # Counted in the forward pass; checkpointing runs it again in the backward one.
                tokens.append(counts.counts().sum(dim=0))
                if losses.numel():
                    (losses.sum() / answered).backward()
    found.collect()
    for received in tokens:
        found.tokens += received.cpu()
    return found


@contextmanager
def _only_experts_learn(model: PreTrainedModel, layout: MoELayout) -> Iterator[list[tuple[int, torch.nn.Parameter]]]:
    """Yields the experts' parameters with their layer's position; routers behave as in `eval()` throughout."""
    before = {parameter: (parameter.requires_grad, parameter.grad) for parameter in model.parameters()}
    for parameter in before:
        parameter.requires_grad_(False).grad = None
    chosen = [
        (position, model.get_parameter(name).requires_grad_())
        for position, layer in enumerate(layout.layers)
        for name in layer.parameters
    ]
    try:
        with evaluating(model):
            yield chosen
    finally:
        for parameter, (required, grad) in before.items():
            parameter.requires_grad_(required)
            parameter.grad = grad


@contextmanager
def _reduced_on_arrival(parameters: list[tuple[int, torch.nn.Parameter]], found: Magnitudes) -> Iterator[None]:
    """Inside, a gradient that is complete is added to `found` and freed."""

    def reduce(position: int, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        found.add(position, parameter.grad)
        parameter.grad = None

    handles = [
        parameter.register_post_accumulate_grad_hook(partial(reduce, position)) for position, parameter in parameters
    ]
    with hooked(handles):
        yield
        # An expert layer that the last micro-batch did not reach keeps what the earlier ones left.
        for position, parameter in parameters:
            if parameter.grad is not None:
                reduce(position, parameter)
