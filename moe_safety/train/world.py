"""Rank and size helpers for torch.distributed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist


class World:
    """The workers of a phase: rank, number of workers, and collective operations, which cost nothing for one alone."""

    def __init__(self) -> None:
        together = dist.is_available() and dist.is_initialized()
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        on_gpu = together and dist.get_backend() == "nccl"
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")

    def largest(self, numbers: Sequence[int]) -> list[int]:
        """The largest of each number over all workers."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.long, device=self.device)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return [int(number) for number in found.tolist()]

    def gather(self, numbers: Sequence[float]) -> list[list[float]]:
        """Every worker's numbers, equally many, by rank."""
        if self.size == 1:
            return [list(numbers)]
        own = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        return [list(map(float, each.tolist())) for each in found]

    def first(self, numbers: Sequence[float]) -> list[float]:
        """Worker 0's numbers, for every worker."""
        return self.gather(numbers)[0]

    def sum_(self, tensor: torch.Tensor) -> None:
        """Adds all workers' tensors up, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def wait(self) -> None:
        """Returns when every worker has come here."""
        if self.size > 1:
            dist.barrier()
