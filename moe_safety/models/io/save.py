"""Writes a model as a Hugging Face checkpoint, layer by layer, so that no worker ever holds all of it at once."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from moe_safety.models.experts.selective import Gather

SHARD_BYTES = 5 * 10**9
_LAYER = re.compile(r"^(.*?\.\d+)\.")


def save_model(
    model: PreTrainedModel, folder: Path, *, gather: Gather | None = None, writes: bool = True, shard: int = SHARD_BYTES
) -> None:
    """Weights under the hub's own names, with the model's configuration.

    Where ZeRO-3 spreads parameters, every worker calls this with its `gather`, and the one that `writes` does.
    """
    names = _saved_names(model)
    state = model.state_dict(keep_vars=True)
    files: list[tuple[Path, list[str]]] = []
    pending: dict[str, torch.Tensor] = {}
    total = 0
    for _, group in groupby(names, key=_part):
        part = list(group)
        parameters = [tensor for name in part if isinstance(tensor := state[name], torch.nn.Parameter)]
        with gather(parameters) if gather else nullcontext():
            if not writes:
                continue
            whole = {name: state[name].detach().to("cpu", copy=True) for name in part}
        for name, tensor in revert_weight_conversion(model, whole).items():
            if pending and sum(each.nbytes for each in pending.values()) + tensor.nbytes > shard:
                files.append(_write(folder, len(files), pending))
                pending = {}
            pending[name] = tensor.contiguous()
            total += tensor.nbytes
    if writes:
        files.append(_write(folder, len(files), pending))
        _name_shards(folder, files, total)
        _write_config(model, folder)


def _saved_names(model: PreTrainedModel) -> list[str]:
    """What a checkpoint holds: of tied tensors one, and nothing that the family leaves out."""
    state = dict(model.state_dict(keep_vars=True))
    for name in model._keys_to_ignore_on_save or ():
        state.pop(name, None)
    spread = any(hasattr(tensor, "ds_id") for tensor in state.values())
    kept = set(state if spread else remove_tied_weights_from_state_dict(state, model))
    tied = {name for name in model.all_tied_weights_keys or {} if spread}
    return [name for name in model.state_dict() if name in kept and name not in tied]


def _part(name: str) -> str:
    """The decoder layer that a tensor belongs to; conversions between names stay within one."""
    found = _LAYER.match(name)
    return found.group(1) if found else ""


def _write(folder: Path, number: int, tensors: dict[str, torch.Tensor]) -> tuple[Path, list[str]]:
    path = folder / f"writing-{number}.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    return path, list(tensors)


def _name_shards(folder: Path, files: list[tuple[Path, list[str]]], total: int) -> None:
    """One file has the plain name; of several each has its number, and an index says what stands where."""
    if len(files) == 1:
        files[0][0].rename(folder / "model.safetensors")
        return
    where: dict[str, str] = {}
    for number, (path, names) in enumerate(files, start=1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        path.rename(folder / name)
        where |= dict.fromkeys(names, name)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def _write_config(model: PreTrainedModel, folder: Path) -> None:
    implementation = model.config._experts_implementation
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.config._experts_implementation = implementation
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
