"""What rounding takes of what routers learn: steps change float32 masters, which the model keeps in its own type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from moe_safety.models.experts import Gather
from moe_safety.train.engines import Engine, Tensors


def copies(trained: Tensors, gather: Gather) -> dict[str, torch.Tensor]:
    """Copies of the trained tensors, as they are now."""
    found = {}
    for name, parameter in trained.items():
        with gather([parameter]):
            found[name] = parameter.detach().clone()
    return found


def rounding(
    start: Mapping[str, torch.Tensor], trained: Tensors, engine: Engine, gather: Gather, rates: float
) -> dict[str, Any]:
    """How far the saved tensors are from their masters, and how many elements moved in each since `start`; `rates` is
    the sum of all steps' learning rates. Every worker calls it."""
    found = dict.fromkeys(("elements", "changed", "changed_masters", "stuck"), 0) | {"largest_difference": 0.0}
    for name, saved in copies(trained, gather).items():
        master = engine.master(trained[name]).to(saved.device)
        found["elements"] += saved.numel()
        found["changed"] += int((saved != start[name]).sum())
        found["changed_masters"] += int((master != start[name]).sum())
        found["stuck"] += int((half_last_bits(start[name]) > rates).sum())
        off = float((saved.double() - master.double()).abs().max())
        found["largest_difference"] = max(found["largest_difference"], off)
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in start.values()})
    return found | {"summed_rate": rates, "dtype": ", ".join(types)}


def half_last_bits(values: torch.Tensor) -> torch.Tensor:
    """Half the last bit of each element: what moves it by less is rounded away. A zero takes whatever comes."""
    wide = values.double()
    half = torch.full_like(wide, torch.finfo(values.dtype).eps / 4).ldexp(torch.frexp(wide).exponent)
    return half.masked_fill(values == 0, 0.0)
