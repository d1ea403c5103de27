"""Plain PyTorch: every worker holds everything that trains."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from moe_safety.train.engines.base import Tensors
from moe_safety.train.optimizer import LazyAdamW, MasterAdamW
from moe_safety.train.world import World

_STATE = "trained.safetensors"


class PlainEngine:
    """The engine that trains by PyTorch alone."""

    def __init__(self, trained: Tensors, optimizer: LazyAdamW | MasterAdamW, clip: float | None, world: World) -> None:
        self.trained, self.optimizer, self.clip, self.world = trained, optimizer, clip, world

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        loss.backward()

    def step(self, learning_rate: float) -> torch.Tensor:
        for parameter in self.trained.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self.world.sum_(parameter.grad)
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), math.inf if self.clip is None else self.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def master(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        return self.optimizer.state[parameter].get("master", parameter.detach())

    def save(self, folder: Path) -> None:
        if self.world.rank:
            return
        state = {f"weight/{name}": parameter.detach() for name, parameter in self.trained.items()}
        for name, parameter in self.trained.items():
            state |= {f"{key}/{name}": value for key, value in self.optimizer.state[parameter].items()}
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / _STATE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        by_name = dict(self.trained)
        for full, tensor in load_file(folder / _STATE).items():
            key, name = full.split("/", 1)
            parameter = by_name[name]
            if key == "weight":
                parameter.copy_(tensor)
            else:
                self.optimizer.state[parameter][key] = tensor.to(parameter.device)
