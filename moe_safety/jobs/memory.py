"""What running out of memory looks like, and how a process gets the cards of its host to itself."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException | None) -> bool:
    # On a CPU torch has no class of its own for it.
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return on_cpu or isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)


def free_cards() -> None:
    """Ends the replicas that this process left from its jobs, where they may hold the card that it is about to fill."""
    if torch.cuda.is_available():
        from moe_safety.jobs.pool import release_replicas

        release_replicas()
