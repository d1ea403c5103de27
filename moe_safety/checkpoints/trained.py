"""The delta of a model that was just trained, from what trained of it: nothing else is read, or written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

from moe_safety.checkpoints.delta import write_delta
from moe_safety.checkpoints.examine import Both
from moe_safety.config import ModelConfig
from moe_safety.errors import RunError
from moe_safety.models import MoELayout
from moe_safety.models.experts import Gather
from moe_safety.models.io import delta_file, model_folder, skeleton_of
from moe_safety.models.io.dequantised import dequantised
from moe_safety.models.io.save import DTYPES, hub_tensors, saved_tensors
from moe_safety.models.stored import Checkpoint, Held, Patched, Stored, open_checkpoint, read_delta, with_delta
from moe_safety.models.stored.owners import Expert, Owners, find_owners


def write_trained(
    model: PreTrainedModel,
    given: ModelConfig,
    layout: MoELayout,
    trained: Collection[str],
    experts: Collection[Expert],
    out: str,
    *,
    gather: Gather | None = None,
    writes: bool = True,
) -> bool:
    """Writes to `out` what `delta extract` would find between the base and the model, saved: what trained now, its
    parameters named and of fused ones these experts, and what the model that it began with, `given`, had of a delta
    already. Where the base is stored in other types than the model is loaded in there is no delta, and nothing is
    written. With ZeRO-3 every worker calls it, as `save_weights`."""
    skeleton = skeleton_of(given)
    saved = _as_saved(model, model_folder(given))
    base = dequantised(open_checkpoint(model_folder(given)), skeleton.config, saved)
    if any(base.tensors[name].dtype != one.dtype for name, one in saved.tensors.items() if name in base.tensors):
        return False
    owners = find_owners(skeleton, layout, {name: tensor.shape for name, tensor in base.tensors.items()})
    moved = _moved(layout, owners, trained, experts, out)
    before = delta_file(given)
    start = with_delta(base, read_delta(before)) if before else base
    tensors = dict(start.tensors)
    for found in hub_tensors(model, trained, gather=gather, writes=writes):
        tensors |= {name: _patched(tensors[name], found[name], moved[name]) for name in found.keys() & moved.keys()}
    if writes:
        if unlike := [
            name for name, one in saved.tensors.items() if name not in base.tensors or _differ(base, one, name)
        ]:
            raise RunError(f"{out}: a delta holds experts and routers, and {unlike[0]} is not the base's")
        tuned = Checkpoint(base.folder, {name: tensors[name] for name in sorted(saved.tensors)})
        write_delta(Both(layout, base, tuned, owners), out, out)
    return True


def _as_saved(model: PreTrainedModel, folder: Path) -> Checkpoint:
    """The form that a checkpoint of the model would have."""
    forms = {
        name: Stored(folder, 0, tensor.nbytes, DTYPES[tensor.dtype], tuple(tensor.shape))
        for name, tensor in saved_tensors(model).items()
    }
    return Checkpoint(folder, forms)


def _differ(base: Checkpoint, one: Stored, name: str) -> bool:
    return base.tensors[name].form != one.form


def _moved(
    layout: MoELayout, owners: Owners, trained: Collection[str], experts: Collection[Expert], out: str
) -> Mapping[str, list[int] | None]:
    """The tensors of the base that may have changed, by their names, and of those with many experts the rows."""
    chosen, routers, left = set(experts), set(), set(trained)
    for layer in layout.layers:
        if left & layer.parameters.keys() and not any(index == layer.index for index, _ in experts):
            chosen |= {(layer.index, expert) for expert in range(layer.num_experts)}
        if own := {name for name in left if name.startswith(f"{layer.router}.")}:
            routers.add(layer.index)
            left -= own
        left -= layer.parameters.keys()
    if left:
        raise RunError(f"{out}: a delta holds experts and routers, and {min(left)} trained")
    moved: dict[str, list[int] | None] = {name: None for name, layer in owners.routers.items() if layer in routers}
    for name, its in owners.experts.items():
        if rows := [row for row, expert in enumerate(its) if expert in chosen]:
            moved[name] = rows if len(its) > 1 else None
    return moved


def _patched(under: Stored, tensor: torch.Tensor, rows: list[int] | None) -> Stored:
    if rows is None:
        return Held.like(under, _bytes(tensor))
    data = tensor[rows]
    return Patched.of(
        under, {row: Held.like(under.block(row, under.shape[0]), _bytes(data[at])) for at, row in enumerate(rows)}
    )


def _bytes(tensor: torch.Tensor) -> memoryview:
    """A copy of its own: the model goes on."""
    return tensor.detach().contiguous().to("cpu", copy=True).reshape(-1).view(torch.uint8).numpy().data
