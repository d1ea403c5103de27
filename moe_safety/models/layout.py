"""Where a model keeps its experts: layers, routers, parameter names and shapes, read from the modules themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from moe_safety import checks
from moe_safety.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from moe_safety.models.families import Family


@dataclass(frozen=True)
class MoELayer:
    """One decoder layer's routed experts; every path is as in `model.named_modules()`."""

    index: int
    """The decoder layer's index in the model, dense layers counted."""
    name: str
    """The module that holds router and experts."""
    experts: str
    router: str
    num_experts: int
    top_k: int
    parameters: Mapping[str, tuple[int, ...]]
    """The experts' parameters by full name; the first axis of each shape is the expert."""
    transposed: bool
    """Matrices are [expert, in, out] instead of [expert, out, in]."""
    has_bias: bool
    has_gate: bool
    concatenated: bool
    """Gate rows stand before up rows; otherwise they alternate."""
    shared_experts: tuple[str, ...]
    """Modules that every token passes beside its routed experts."""

    @property
    def parameters_per_expert(self) -> int:
        """The number of parameters in one expert of this layer."""
        return sum(prod(shape[1:]) for shape in self.parameters.values())


@dataclass(frozen=True)
class MoELayout:
    """All MoE layers of a model, in order. Axis 0 of every mask and table is the position in `layers`."""

    model_type: str
    num_decoder_layers: int
    hidden_size: int
    layers: tuple[MoELayer, ...]
    dense_layers: tuple[int, ...]
    """Decoder layers without routed experts."""

    @property
    def n_moe_layers(self) -> int:
        """The number of layers with routed experts."""
        return len(self.layers)

    @property
    def max_experts(self) -> int:
        """The number of experts in the largest layer."""
        return max(layer.num_experts for layer in self.layers)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of masks and tables: MoE layers by experts of the largest."""
        return self.n_moe_layers, self.max_experts

    def experts(self) -> list[tuple[int, int]]:
        """Every (layer, expert) pair, in order."""
        return [(layer.index, expert) for layer in self.layers for expert in range(layer.num_experts)]

    def position(self, layer: int) -> int:
        """The row of decoder layer `layer` in masks and tables."""
        for row, moe_layer in enumerate(self.layers):
            if moe_layer.index == layer:
                return row
        raise InputError(f"layer {layer} has no experts in this model ({self.model_type})")

    def fingerprint(self) -> str:
        """A hash of what masks and tables depend on; module paths are not part of it."""
        layers = [(layer.index, layer.num_experts, layer.top_k) for layer in self.layers]
        facts = [self.model_type, self.num_decoder_layers, self.hidden_size, layers]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for the metadata of tables."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MoELayout:
        """The layout that `to_dict` wrote, also after a round through JSON."""
        layers = tuple(
            MoELayer(
                **{
                    **layer,
                    "parameters": {name: tuple(shape) for name, shape in layer["parameters"].items()},
                    "shared_experts": tuple(layer["shared_experts"]),
                }
            )
            for layer in data["layers"]
        )
        return cls(**{**data, "layers": layers, "dense_layers": tuple(data["dense_layers"])})


def inspect_model(model: PreTrainedModel) -> MoELayout:
    """The layout of a mixture-of-experts model: where its experts and routers are, and how many.

    `model` is any causal language model of transformers with routed experts, on any device (`meta` included). Returns a
    `MoELayout`, whose `layers` have `index`, `name`, `num_experts` and `top_k`. The examples of the other functions
    use this `model`.

    >>> from transformers import OlmoeConfig, OlmoeForCausalLM
    >>> sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2}
    >>> experts = {"num_attention_heads": 4, "num_experts": 8, "num_experts_per_tok": 2, "eos_token_id": 1}
    >>> model = OlmoeForCausalLM(OlmoeConfig(**sizes, **experts)).eval()
    >>> [(layer.index, layer.num_experts, layer.top_k) for layer in inspect_model(model).layers]
    [(0, 8, 2), (1, 8, 2)]
    """
    # Layouts come out of tables too, where no model is touched and torch is not needed.
    from moe_safety.models.decoder import decoder_layers, decoder_of
    from moe_safety.models.families import family_of

    checks.a_model(model)
    name = model.name_or_path or model.config.model_type
    if model.config.is_encoder_decoder:
        raise InputError(f"{name} is an encoder-decoder model; only causal language models are served")
    decoder = decoder_of(model)
    stack = decoder_layers(decoder)
    family = family_of(decoder.config)
    paths = {id(module): path for path, module in model.named_modules()}
    layers = tuple(
        _read_layer(index, block, experts, family, paths, decoder.config)
        for index, block in enumerate(stack)
        for experts in _experts_of(index, block, family)
    )
    if not layers:
        if any("experts" in type(module).__name__.lower() for module in decoder.modules()):
            raise InputError(f"{name} keeps its experts outside the experts interface of transformers")
        raise InputError(f"{name} has no mixture-of-experts layers")
    return MoELayout(
        model_type=decoder.config.model_type,
        num_decoder_layers=len(stack),
        hidden_size=decoder.config.hidden_size,
        layers=layers,
        dense_layers=tuple(sorted(set(range(len(stack))) - {layer.index for layer in layers})),
    )


def check_experts(layout: MoELayout, experts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Each expert once, in order; there is one at least, and all of them exist."""
    wanted = sorted(checks.pairs(experts))
    checks.require(wanted, "experts", "names no expert")
    unknown = sorted(set(wanted) - set(layout.experts()))[:1]
    checks.require(
        not unknown, "experts", "".join(f"L{layer:02d}_E{expert:02d} does not exist" for layer, expert in unknown)
    )
    return wanted


def _experts_of(index: int, block: torch.nn.Module, family: Family) -> list[torch.nn.Module]:
    """The experts modules of one decoder layer: none or one."""
    found = [module for module in block.modules() if family.is_experts(module)]
    if len(found) > 1:
        raise InputError(f"layer {index} holds {len(found)} groups of experts; one is served")
    return found


def _read_layer(
    index: int,
    block: torch.nn.Module,
    experts: torch.nn.Module,
    family: Family,
    paths: Mapping[int, str],
    config: Any,
) -> MoELayer:
    path = paths[id(experts)]
    parent = next(module for module in block.modules() if experts in module.children())
    router = next((child for name, child in parent.named_children() if name in family.routers), None)
    if router is None:
        raise InputError(f"no router found beside {path}")
    num_experts = experts.get_parameter("down_proj").shape[0]
    traits = family.traits(experts)
    return MoELayer(
        index=index,
        name=paths[id(parent)],
        experts=path,
        router=paths[id(router)],
        num_experts=num_experts,
        top_k=_top_k(router, family, config),
        parameters={
            f"{path}.{name}": tuple(parameter.shape)
            for name, parameter in experts.named_parameters(recurse=False)
            if parameter.shape[0] >= num_experts
        },
        transposed=traits.is_transposed,
        has_bias=traits.has_bias,
        has_gate=traits.has_gate,
        concatenated=traits.is_concatenated,
        shared_experts=_shared_experts(block, paths),
    )


def _top_k(router: torch.nn.Module, family: Family, config: Any) -> int:
    """How many experts a token gets."""
    for source, key in ((router, "top_k"), (config, family.top_k)):
        if isinstance(value := getattr(source, key, None), int):
            return value
    raise InputError(f"{type(router).__name__} does not say how many experts a token gets")


def _shared_experts(block: torch.nn.Module, paths: Mapping[int, str]) -> tuple[str, ...]:
    found: list[str] = []
    for name, module in block.named_modules():
        own, path = name.rsplit(".", 1)[-1], paths[id(module)]
        if "shared" in own and "gate" not in own and not any(path.startswith(f"{outer}.") for outer in found):
            found.append(path)
    return tuple(found)
