"""Formulas that take one pass over memory in place of many, on machines that can compile them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as compiled code; as it is where nothing can compile it. Left to itself, the compiler tries
    sums in several orders and takes the fastest: which one that is, and so their last bit, would be chance."""
    return torch.compile(function, options={"deterministic": True}) if _can_compile() else function


def of_any(tensor: torch.Tensor, *dims: int) -> torch.Tensor:
    """The tensor for a compiled function outside autograd. Those of its sizes change from call to call, so that one
    compilation serves them all; the others, such as widths, are compiled in, which makes code several times faster."""
    tensor = tensor.detach()
    for dim in dims:
        torch._dynamo.maybe_mark_dynamic(tensor, dim)
    return tensor


def finer(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32, or finer where it was finer."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@cache
def _can_compile() -> bool:
    """Tried, since it takes a C compiler, Python's headers, a folder to write to and, on a GPU, Triton."""
    numbers = torch.ones(8, device="cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.compile(lambda given: given * 2 + 1)(numbers)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logging.getLogger(__name__).warning("nothing compiles here, so training is slower: %s", reason)
        return False
    return True
