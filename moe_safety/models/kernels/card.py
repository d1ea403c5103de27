"""Whether hand-written kernels serve a tensor."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import torch

from moe_safety.errors import first_line
from moe_safety.rundir import spent


def kernels(tensor: torch.Tensor) -> Any:
    """The module of kernels, where they serve such a tensor: on a GPU that runs Triton, in float32 or less. Elsewhere
    none, and torch does what they do."""
    if not tensor.is_cuda or tensor.dtype == torch.float64:
        return None
    # Triton launches on the card at hand, and a model may be spread over several.
    return _written() if tensor.device.index == torch.cuda.current_device() else None


@cache
@spent("compiling")
def _written() -> Any:
    """Tried, since it takes Triton, a C compiler, Python's headers and a folder to write to."""
    try:
        from moe_safety.models.kernels import triton_kernels

        triton_kernels.magnitudes(torch.ones(2, 8, device="cuda"))
    except Exception as error:
        reason = first_line(error)
        logging.getLogger(__name__).warning("no kernels compile here, so passes are slower: %s", reason)
        return None
    return triton_kernels
