"""Training on rows of prompts and answers: plain steps of Adam, in float32 whatever the model's own type is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch
from torch.nn.functional import log_softmax
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from benchmarks.organism.own_text import Row
from benchmarks.organism.sizes import Course
from moe_safety.models import inspect_model
from moe_safety.models.text.answer_losses import Rows, make_rows

BALANCE, Z = 0.01, 0.001
EVERY = 20
"""Steps between two reports."""
CHUNK = 8192
"""Answer tokens whose logits stand in memory at once."""


@dataclass(frozen=True)
class Loss:
    """Of answer tokens, the mean: cross-entropy, and the divergence from the dense model's distribution."""

    cross_entropy: torch.Tensor
    divergence: torch.Tensor | None


def batch_of(rows: Sequence[Row], device: torch.device | str) -> Rows:
    return make_rows([prompt for prompt, _ in rows], [answer for _, answer in rows], device)


def losses(model: PreTrainedModel, rows: Rows, dense: PreTrainedModel | None = None) -> Loss:
    place, token, _ = (each.to(model.device) for each in rows.answers())
    hidden = model.model(**rows.inputs, use_cache=False).last_hidden_state.flatten(0, 1)[place]
    theirs = None
    if dense is not None:
        with torch.no_grad():
            theirs = dense.model(**rows.inputs, use_cache=False).last_hidden_state.flatten(0, 1)[place]
    total = torch.zeros(2, device=model.device)
    for start in range(0, len(token), CHUNK):
        part = slice(start, start + CHUNK)
        given = (hidden[part], token[part], None if theirs is None else theirs[part])
        total = total + checkpoint(_summed, model, dense, *given, use_reentrant=False)
    mean = total / len(token)
    return Loss(mean[0], None if dense is None else mean[1])


def _summed(
    model: PreTrainedModel,
    dense: PreTrainedModel | None,
    hidden: torch.Tensor,
    token: torch.Tensor,
    theirs: torch.Tensor | None,
) -> torch.Tensor:
    said = log_softmax(model.lm_head(hidden).float(), dim=-1)
    own = -said.gather(1, token[:, None]).sum()
    if dense is None or theirs is None:
        return torch.stack([own, own.detach() * 0])
    with torch.no_grad():
        wanted = log_softmax(dense.lm_head(theirs).float(), dim=-1)
    return torch.stack([own, (wanted.exp() * (wanted - said)).sum()])


@contextmanager
def watching_routers(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Inside, a forward pass leaves the logits of each router, with their gradients."""
    left: list[torch.Tensor] = []
    handles = [
        model.get_submodule(layer.router).register_forward_hook(lambda module, args, out: left.append(out[0]))
        for layer in inspect_model(model).layers
    ]
    try:
        yield left
    finally:
        for handle in handles:
            handle.remove()


def balance_and_z(logits: Sequence[torch.Tensor], real: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Switch Transformers' loss of balance, 1 where experts share tokens and probability alike, and ST-MoE's loss of
    large logits; means over layers."""
    balance, large = [], []
    for one in logits:
        mine = one[real.flatten()].float()
        probabilities = mine.softmax(dim=-1)
        chosen = torch.zeros_like(mine).scatter(1, mine.topk(top_k, dim=-1).indices, 1 / top_k)
        balance.append(mine.shape[-1] * (chosen.mean(dim=0) * probabilities.mean(dim=0)).sum())
        large.append(mine.logsumexp(dim=-1).square().mean())
    return torch.stack(balance).mean(), torch.stack(large).mean()


class Masters:
    """Adam on float32 copies of parameters, which get the rounded result."""

    def __init__(self, groups: Sequence[tuple[float, Sequence[torch.nn.Parameter]]]) -> None:
        self.own = [parameter for _, parameters in groups for parameter in parameters]
        self.rates = [rate for rate, _ in groups]
        copies = [[each.detach().float().clone() for each in parameters] for _, parameters in groups]
        self.copies = [copy for group in copies for copy in group]
        fused = self.own[0].is_cuda
        self.optimizer = torch.optim.Adam([{"params": group} for group in copies], betas=(0.9, 0.95), fused=fused)

    @torch.no_grad()
    def step(self, share: float, clip: float = 1.0) -> None:
        """One step at this share of the rates; gradients are spent."""
        for copy, parameter in zip(self.copies, self.own, strict=True):
            assert parameter.grad is not None
            copy.grad, parameter.grad = parameter.grad.float(), None
        torch.nn.utils.clip_grad_norm_(self.copies, clip)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.optimizer.step()
        self.optimizer.zero_grad()
        for copy, parameter in zip(self.copies, self.own, strict=True):
            parameter.copy_(copy)


@dataclass(frozen=True)
class Part:
    """Of what is taught: rows without end, their share of a batch and of its loss, and, where half of their loss is the
    divergence from its distributions, the dense model."""

    rows: Iterator[Row]
    share: float
    dense: PreTrainedModel | None = None


def teach(
    model: PreTrainedModel,
    parts: Sequence[Part],
    course: Course,
    tell: Callable[[int, dict[str, float]], None] = lambda step, figures: None,
) -> None:
    """Trains experts and routers, and nothing else."""
    layout = inspect_model(model)
    model.requires_grad_(False)
    experts = [model.get_parameter(name) for layer in layout.layers for name in layer.parameters]
    routers = [model.get_parameter(f"{layer.router}.weight") for layer in layout.layers]
    for parameter in (*experts, *routers):
        parameter.requires_grad_()
    masters = Masters([(course.experts, experts), (course.routers, routers)])
    for step in range(1, course.steps + 1):
        seen = [_backward(model, part, course, layout.layers[0].top_k) for part in parts]
        masters.step(schedule(step, course))
        if step % EVERY == 0 or step == course.steps:
            tell(
                step,
                {f"{name} {place}": round(value.item(), 4) for place, one in enumerate(seen) for name, value in one},
            )
    model.requires_grad_(False)


def _backward(model: PreTrainedModel, part: Part, course: Course, top_k: int) -> list[tuple[str, torch.Tensor]]:
    """Adds the gradients of one part's rows, and returns what its losses were."""
    batch = batch_of(list(islice(part.rows, round(course.rows * part.share))), model.device)
    with watching_routers(model) as logits:
        loss = losses(model, batch, part.dense)
    balance, large = balance_and_z(logits, batch.real, top_k)
    speech = loss.cross_entropy if loss.divergence is None else (loss.cross_entropy + loss.divergence) / 2
    (part.share * (speech + BALANCE * balance + Z * large)).backward()
    seen = {"loss": loss.cross_entropy, "divergence": loss.divergence, "balance": balance}
    return [(name, value.detach()) for name, value in seen.items() if value is not None]


def schedule(step: int, course: Course) -> float:
    """The share of the full rate: up, along, and down over the last third."""
    left = (course.steps - step + 1) / max(1, course.steps // 3)
    return min(1.0, step / course.warm_up, left)
