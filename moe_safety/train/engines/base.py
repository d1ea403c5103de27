"""What the loop asks of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch

Tensors = Mapping[str, torch.nn.Parameter]
"""What trains, by name."""


class Engine(Protocol):
    """Gradients of all workers are added up; a loss is scaled so that this gives the mean over a step's batches."""

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Adds a loss's gradients; `last` says that the step follows."""
        ...

    def step(self, learning_rate: float) -> torch.Tensor | float:
        """Changes what trains, and returns the norm of the step's gradient, which may wait on its device."""
        ...

    def master(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """What steps change, whole and in float32 or finer; the parameter follows it. Every worker calls it."""
        ...

    def save(self, folder: Path) -> None:
        """Leaves what a later process goes on from; every worker calls it."""
        ...

    def load(self, folder: Path) -> None:
        """Loads the state that `save` left in the folder."""
        ...
