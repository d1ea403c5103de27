"""What each tensor of a checkpoint is a part of: an expert, a router, or neither.

Checkpoints carry the hub's names, which differ from the model's own and from family to family. So they go through the
conversion that transformers loads them by, small marks in place of weights: the parameter in which a mark ends up says
what the tensor is a part of.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

from moe_safety.errors import InputError
from moe_safety.models.layout import MoELayout

Expert = tuple[int, int]
"""A layer, by the decoder layer's index, and an expert of it."""

Shapes = Mapping[str, tuple[int, ...]]

_SIDE = 4
"""The sides of a mark; conversions halve them, and interleave the halves."""


@dataclass(frozen=True)
class Owners:
    """The expert or router of each tensor; one that is in neither `experts` nor `routers` is a part of neither."""

    experts: dict[str, tuple[Expert | None, ...]] = field(default_factory=dict)
    """By tensor, the expert of each of its equal parts along the first axis: of the whole, or of every row."""
    routers: dict[str, int] = field(default_factory=dict)
    """By tensor, the layer."""
    names: dict[str, str] = field(default_factory=dict)
    """By tensor, the model's own name of the parameter that it is read into."""
    unread: set[str] = field(default_factory=set)
    """Tensors that the model does not load."""
    ties: dict[str, str] = field(default_factory=dict)
    """Tensors that the model has from another one, and from which."""

    def blocks(self, name: str) -> int:
        """The number of equal parts that the tensor consists of."""
        return len(self.experts[name]) if name in self.experts else 1

    def expert(self, name: str, block: int) -> Expert | None:
        """The expert whose weights this part of the tensor holds."""
        return self.experts[name][block] if name in self.experts else None


@dataclass
class Loading:
    """How one of the model's tensors is made from a checkpoint's."""

    converter: WeightConverter | None
    """None where it is taken as it is."""
    sources: list[tuple[str, str]]
    """Names in the checkpoint, and by which of the converter's patterns each was found; in loading order."""


def find_owners(model: PreTrainedModel, layout: MoELayout, shapes: Shapes) -> Owners:
    """The owners of tensors of these names and shapes; `model` may be empty, on the meta device."""
    owners, own_names = Owners(), model.state_dict().keys()
    layer_of = {name: layer for layer in layout.layers for name in layer.parameters}
    loading = loading_of(model, shapes)
    for own_name, made in loading.items():
        names = [name for name, _ in made.sources]
        owners.names.update(dict.fromkeys(names, own_name))
        if own_name not in own_names:
            owners.unread.update(names)
        elif layer := layer_of.get(own_name):
            for name, rows in rows_of(model, own_name, layer.parameters[own_name], made, shapes).items():
                owners.experts[name] = tuple((layer.index, row) if row < layer.num_experts else None for row in rows)
        elif made.converter is None or len(made.converter.target_patterns) == 1:
            routers = (layer.index for layer in layout.layers if own_name.startswith(f"{layer.router}."))
            owners.routers.update((name, index) for index in routers for name in names)
    for own_name, source in model.all_tied_weights_keys.items():
        if own_name in loading and source in loading:
            owners.ties[loading[own_name].sources[0][0]] = loading[source].sources[0][0]
    return owners


def loading_of(model: PreTrainedModel, shapes: Shapes) -> dict[str, Loading]:
    """By the model's own names; what it does not load keeps the name that the conversion gave it."""
    mapping = get_model_conversion_mapping(model)
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    own_names = model.state_dict()
    loading: dict[str, Loading] = {}
    for name in sorted(shapes, key=dot_natural_key):
        own_name, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, own_names)
        if own_name not in own_names and name in own_names:
            own_name, pattern = name, None
        if own_name not in loading:
            loading[own_name] = Loading(deepcopy(by_pattern[pattern]) if pattern else None, [])
        loading[own_name].sources.append((name, pattern or name))
    return loading


def rows_of(
    model: PreTrainedModel, own_name: str, own_shape: tuple[int, ...], made: Loading, shapes: Shapes
) -> dict[str, list[int]]:
    """For every source of a parameter of experts: which of the parameter's rows each of its equal parts becomes."""
    if made.converter is None:
        return {name: list(range(shapes[name][0])) for name, _ in made.sources}
    numbers: dict[str, list[int]] = {}
    for name, pattern in made.sources:
        fused = len(shapes[name]) == len(own_shape)
        first = sum(map(len, numbers.values()))
        numbers[name] = list(range(first, first + (shapes[name][0] if fused else 1)))
        mark = torch.tensor(numbers[name]).view(-1, *[1] * (len(own_shape) - 1))
        mark = mark.expand(-1, *[_SIDE] * (len(own_shape) - 1)).contiguous()
        made.converter.add_tensor(own_name, name, pattern, mark if fused else mark[0])
    try:
        made_of = made.converter.convert(own_name, model=model, config=model.config)[own_name]
        found = {int(number): row for row, part in enumerate(made_of) for number in part.unique()}
        if len(made_of) > own_shape[0] or sum(len(part.unique()) for part in made_of) != len(found):
            raise ValueError("experts are mixed")
        return {name: [found[number] for number in its] for name, its in numbers.items()}
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"its experts cannot be told apart in {made.sources[0][0]}: {error}") from None
