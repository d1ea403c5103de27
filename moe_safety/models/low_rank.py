"""Changes of low rank (Hu et al. 2021, arXiv 2106.09685): a matrix W rests, and W + alpha/rank B A stands in its place,
of which the factors A and B train. What a pass computes with is what is left in the end, rounding included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from transformers import PreTrainedModel


class LowRank(torch.nn.Module):
    """The change of one matrix, or of each matrix of a stack: nothing at first, since B is zero and A drawn."""

    def __init__(self, matrix: torch.Tensor, rank: int, alpha: float, chance: torch.Generator) -> None:
        super().__init__()
        *stack, out, into = matrix.shape
        wide = torch.promote_types(matrix.dtype, torch.float32)
        drawn = torch.randn(*stack, rank, into, generator=chance) / into**0.5
        self.a = torch.nn.Parameter(drawn.to(matrix.device, wide))
        self.b = torch.nn.Parameter(torch.zeros(*stack, out, rank, dtype=wide, device=matrix.device))
        self.scale, self.counts = alpha / rank, True
        """Whether the change counts now."""

    def forward(self, matrix: torch.Tensor) -> torch.Tensor:
        """The changed matrix."""
        return _Changed.apply(matrix, self.scale * self.b @ self.a) if self.counts else matrix


class _Changed(torch.autograd.Function):
    """A sum in the matrix's own type; where nothing is added, its very bits. The gradient goes to what is added."""

    @staticmethod
    def forward(ctx: Any, matrix: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        ctx.dtype = change.dtype
        return torch.where(change == 0, matrix, (matrix + change).to(matrix.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, grads[0].to(ctx.dtype)


@dataclass(frozen=True)
class Factors:
    """The factors of several parameters of a model."""

    changes: dict[str, LowRank]
    """By the parameter's name."""

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """All of them, by name."""
        return {f"{name}.{own}": each for name, one in self.changes.items() for own, each in one.named_parameters()}

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Inside, the parameters are what they were."""
        for one in self.changes.values():
            one.counts = False
        try:
            yield
        finally:
            for one in self.changes.values():
                one.counts = True


@contextmanager
def low_rank(model: PreTrainedModel, names: Iterable[str], rank: int, alpha: float, seed: int) -> Iterator[Factors]:
    """Inside, these parameters of the model, matrices or stacks of them, rest and have factors, drawn with this seed.
    Afterwards the parameters are what they became; after an error what they were."""
    chance, factors, done = torch.Generator().manual_seed(seed), Factors({}), False
    places = [(name, model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in names]
    try:
        for name, module, own in places:
            parameter = module.get_parameter(own)
            change = LowRank(parameter.requires_grad_(False), rank, alpha, chance)
            register_parametrization(module, own, change)
            factors.changes[name] = change
        yield factors
        done = True
    finally:
        for name, module, own in places:
            if name in factors.changes:
                remove_parametrizations(module, own, leave_parametrized=done)
