"""How much CPU memory a process of each task takes on its host, as explicit sums.

With a card, the weights pass through on their way to it, two tensors at a time; what is saved is brought back whole:
nothing in capture, the chosen experts in selective training, all parameters in full training. Without a card, all that
the card would hold (memory_forecast.py) stands here. On top of both come the process itself, its imports and, with a
card, CUDA's own share. Ray takes 2 GB of its own on each host, and shares tables through a third of the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from moe_safety.models.inspection.memory_forecast import Load, Task, capture_memory, training_memory
from moe_safety.models.inspection.sizes import Sizes

PROCESS, WITH_CUDA = 1_000_000_000, 3_000_000_000
"""Bytes of a process that has imported torch, transformers and Ray, without and with CUDA."""


@dataclass(frozen=True)
class HostMemory:
    """Bytes of one process, a replica or a training worker."""

    task: Task
    with_card: int
    without: int


def host_memory(sizes: Sizes, load: Load) -> list[HostMemory]:
    """For each task, on one worker."""
    b = load.dtype_bytes
    passing = 2 * b * sizes.largest_tensor
    saved: dict[Task, int] = {"selective": load.chosen * sizes.parameters_per_expert, "full": sizes.parameters}
    found = [HostMemory("capture", WITH_CUDA + passing, PROCESS + capture_memory(sizes, load).total)]
    for task in ("selective", "full"):
        on_card = training_memory(sizes, load, task, 0, 1).total
        found.append(HostMemory(task, WITH_CUDA + passing + b * saved[task], PROCESS + on_card))
    return found
