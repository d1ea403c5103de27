"""AdamW for a model of which some parts rest, and ordinary AdamW beside it; both keep float32 masters."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, ClassVar

import torch
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from moe_safety import checks
from moe_safety.models.kernels.training import lazy_adamw, serves

_BLOCK = 1 << 16
"""Elements handled at once on a CPU: what one step touches of them stays in its cache."""
MOST_STEPS = torch.iinfo(torch.int16).max
"""As far as an element's steps are counted: what moments of 0.9 and 0.999 lack of their full weight is nothing then."""
_NOTHING = torch.finfo(torch.float32).eps


class _WithMasters(Optimizer):
    """Parameters of fewer than 32 bits have a float32 copy, which is what an update changes; they follow it."""

    counts_to: ClassVar[float] = math.inf
    """How many steps are told apart."""

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        params = _checked(params)
        checks.real_number(lr, "lr", least=0)
        checks.require(
            isinstance(betas, list | tuple) and len(betas) == 2, "betas", f"is {betas!r}, and not two numbers"
        )
        for beta in betas:
            checks.real_number(beta, "betas", least=0, below=1)
            told = f"has {beta}, whose moment lacks weight after {self.counts_to} steps too, and no more are counted"
            checks.require(beta**self.counts_to <= _NOTHING, "betas", told)
        checks.real_number(eps, "eps", least=0)
        checks.real_number(weight_decay, "weight_decay", least=0)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch does, but that the state keeps its types: torch would round masters to their parameters' bits."""
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        for number, parameter in zip(saved, own, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                self.state[parameter][key] = value.to(parameter.device, copy=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state |= self._fresh(parameter)
                self._update(parameter, parameter.grad, state, group)

    def _fresh(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        small = parameter.dtype in (torch.bfloat16, torch.float16)
        master = parameter.detach().to(torch.float32, copy=True) if small else parameter
        moments = {name: torch.zeros_like(master) for name in ("exp_avg", "exp_avg_sq")}
        return moments | ({"master": master} if small else {})

    @abstractmethod
    def _update(
        self, parameter: torch.Tensor, grad: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]
    ) -> None:
        """Changes the state's master, where there is one, and the parameter after it."""


def _checked(params: Iterable[Any]) -> list[Any]:
    """Parameters, alone or in groups."""
    several = isinstance(params, Iterable) and not isinstance(params, str | torch.Tensor | dict)
    checks.require(several, "params", f"is a {type(params).__name__}, and not a list of parameters")
    found = list(params)
    checks.require(found, "params", "holds no parameter")
    odd = next((each for each in found if not isinstance(each, torch.Tensor | dict)), None)
    checks.require(odd is None, "params", f"holds a {type(odd).__name__}, which is no parameter")
    return found


class MasterAdamW(_WithMasters):
    """Ordinary AdamW, one parameter at a time, so that no more than one gradient stands in float32."""

    def _fresh(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        return super()._fresh(parameter) | {"step": torch.zeros((), device=parameter.device)}

    def _update(
        self, parameter: torch.Tensor, grad: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]
    ) -> None:
        master, (beta1, beta2) = state.get("master", parameter), group["betas"]
        adamw(
            [master],
            [grad.to(master.dtype)],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        if master is not parameter:
            parameter.copy_(master)


class LazyAdamW(_WithMasters):
    """AdamW that leaves alone, to the bit, every element whose gradient is exactly zero: the weight, which would decay
    or follow its momentum, the moments, and the element's own count of steps.

    So an expert that is at rest in this step stays as it is, also as a part of a flattened or sharded buffer. Arguments
    are those of `torch.optim.AdamW`; parameters of fewer than 32 bits have float32 masters.

    >>> weight = torch.nn.Parameter(torch.ones(3))
    >>> optimizer = LazyAdamW([weight], lr=0.5, weight_decay=0.1)
    >>> weight.grad = torch.tensor([1.0, 0.0, -1.0])
    >>> optimizer.step()
    >>> (weight == 1).tolist()
    [False, True, False]
    """

    counts_to = MOST_STEPS

    def _fresh(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        fresh = super()._fresh(parameter)
        return fresh | {"steps": torch.zeros_like(fresh["exp_avg"], dtype=torch.int16)}

    def _update(
        self, parameter: torch.Tensor, grad: torch.Tensor, state: dict[str, torch.Tensor], group: dict[str, Any]
    ) -> None:
        master, grad = state.get("master", parameter), grad.contiguous()
        moments = (state["exp_avg"], state["exp_avg_sq"], state["steps"])
        rest = (group["betas"], group["eps"], group["weight_decay"])
        flat = parameter.is_contiguous() and master.is_contiguous()
        if flat and serves(parameter):
            lazy_adamw(parameter, grad, master, *moments, group["lr"], *rest)
            return
        if flat and not parameter.is_cuda:
            for start in range(0, master.numel(), _BLOCK):
                block = slice(start, start + _BLOCK)
                felt = grad.view(-1)[block]
                if felt.any():
                    first, second, steps = (moment.view(-1)[block] for moment in moments)
                    lazy_update(felt, master.view(-1)[block], first, second, steps, group["lr"], *rest)
        else:
            lazy_update(grad, master, *moments, group["lr"], *rest)
        if master is not parameter:
            parameter.copy_(master)


def lazy_update(
    grad: torch.Tensor,
    master: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    steps: torch.Tensor,
    rate: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """One update in place, of the elements whose gradient is not zero."""
    moves = grad != 0
    grad = grad.to(master.dtype)
    steps += moves & (steps < MOST_STEPS)
    first = torch.where(moves, exp_avg + (1 - betas[0]) * (grad - exp_avg), exp_avg)
    second = torch.where(moves, exp_avg_sq + (1 - betas[1]) * (grad * grad - exp_avg_sq), exp_avg_sq)
    exp_avg.copy_(first)
    exp_avg_sq.copy_(second)
    count = steps.clamp(min=1).to(master.dtype)
    # 1 - beta^count, without the digits that the subtraction would lose.
    share1, share2 = (-torch.expm1(count * math.log(beta)) for beta in betas)
    moved = master * (1 - rate * weight_decay) - rate * (first / share1) / ((second / share2).sqrt() + eps)
    master.copy_(torch.where(moves, moved, master))
