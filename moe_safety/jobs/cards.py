"""How a process gets the cards of its host to itself."""

from __future__ import annotations


def free_cards() -> None:
    """Ends the replicas that this process left from its jobs, where they may hold the card that it is about to fill."""
    import torch

    if torch.cuda.is_available():
        from moe_safety.jobs.pool import release_replicas

        release_replicas()
