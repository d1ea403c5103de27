"""What running out of memory looks like."""

from __future__ import annotations

import torch


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that memory ran out, on a card or on a CPU."""
    # On a CPU torch has no class of its own for it, and none where a file of weights finds no place.
    told = ("DefaultCPUAllocator", "Cannot allocate memory")
    on_cpu = isinstance(error, RuntimeError | OSError) and any(words in str(error) for words in told)
    return on_cpu or isinstance(error, torch.cuda.OutOfMemoryError | MemoryError)
