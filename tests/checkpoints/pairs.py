"""A base and a tuned checkpoint of a tiny model, and ways to change one bit of what lies on disk."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from moe_safety.models import inspect_model
from moe_safety.models.io.skeleton import loader_of, read_config
from tests.families import build

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def save_base(name, folder, dtype=torch.float32, **options):
    build(name).to(dtype).save_pretrained(folder, **options)
    return folder


def load(folder):
    return loader_of(read_config(str(folder)), str(folder), False).from_pretrained(folder, dtype="auto")


def flip(tensor):
    """The lowest bit of every value."""
    tensor.data.view(INTEGERS[tensor.element_size()]).bitwise_xor_(1)


def save_tuned(base, folder, experts=(), routers=(), others=(), **options):
    """The base as it is loaded, with these experts, routers and other parameters changed in every value."""
    model = load(base)
    layers = {layer.index: layer for layer in inspect_model(model).layers}
    for index, expert in experts:
        for path in layers[index].parameters:
            flip(model.get_parameter(path)[expert])
    for index in routers:
        for parameter in model.get_submodule(layers[index].router).parameters():
            flip(parameter)
    for path in others:
        flip(model.get_parameter(path))
    model.save_pretrained(folder, **options)
    return folder


def stored(folder):
    """Every tensor on disk, read with the safetensors library."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def rewrite(folder, name, change):
    """Puts `change(tensor)` in the place of one stored tensor; leaves it out where that is nothing."""
    index = folder / "model.safetensors.index.json"
    file = folder / "model.safetensors"
    if index.exists():
        file = folder / json.loads(index.read_text())["weight_map"][name]
    tensors = load_file(file)
    tensor = change(tensors.pop(name).clone() if name in tensors else None)
    save_file(tensors if tensor is None else tensors | {name: tensor}, file, metadata={"format": "pt"})


def flip_one_bit(folder, name, place=0, bit=0):
    def flipped(tensor):
        tensor.view(-1).view(INTEGERS[tensor.element_size()])[place] ^= 1 << bit
        return tensor

    rewrite(folder, name, flipped)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
