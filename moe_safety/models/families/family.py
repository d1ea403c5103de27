"""What a model family declares: where it departs from the experts interface of transformers, and its router's rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moe_safety.config import Registry
from moe_safety.models.families.router_rules import Rule

if TYPE_CHECKING:
    import torch

_TRAITS = ("has_gate", "has_bias", "is_transposed", "is_concatenated")


class AdoptedExperts:
    """Mixed into an experts class that is outside the interface: the traits its decorator would set, and the call."""

    has_gate = True
    has_bias = False
    is_transposed = False
    is_concatenated = True
    has_post_expert_norm = False
    _is_expert_parallel = False
    act_fn: Any
    config: Any

    def _apply_gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return self.act_fn(gate) * up

    def call(self, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Runs the registered experts function that the config names."""
        from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

        chosen = ALL_EXPERTS_FUNCTIONS.get_interface(self.config._experts_implementation, grouped_mm_experts_forward)
        return chosen(self, hidden, index, weights)


@dataclass(frozen=True)
class Adoption:
    """How experts outside the interface are brought onto it."""

    experts_class: str
    """The name of their class."""
    experts: type[AdoptedExperts]
    """What is mixed into that class, so that they use the interface."""
    block: type | None = None
    """The same for the module that calls them, where the call itself differs."""


@dataclass(frozen=True)
class Family:
    """A model family. The defaults are those of a family that needs no declaration."""

    name: str
    """The model type of the decoder's configuration."""
    refusal: str | None = None
    """Why its models cannot be served, in one line."""
    rule: Rule | None = None
    """How its routers get from logits to choices and weights; unless it is known, no choice can be changed."""
    adoption: Adoption | None = None
    """For experts outside the interface."""
    is_no_expert: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor] | None = None
    """Which choices stand for no expert, from the indices, the weights and the number of experts."""
    decoder: str | None = None
    """The attribute that holds the decoder, where transformers' `get_decoder` stops short of it."""
    layers: tuple[str, ...] = ("layers", "blocks", "h")
    """Attributes of the decoder that may hold its layers."""
    routers: tuple[str, ...] = ("gate", "router")
    """Names that a router may have beside its experts."""
    top_k: str = "num_experts_per_tok"
    """The configuration's key for how many experts a token gets, where the router does not say."""

    def is_experts(self, module: torch.nn.Module) -> bool:
        """Whether `module` holds a layer's routed experts."""
        if self.adoption:
            return type(module).__name__ == self.adoption.experts_class
        return all(hasattr(module, trait) for trait in _TRAITS)

    def traits(self, experts: torch.nn.Module) -> Any:
        """What has `has_gate`, `has_bias`, `is_transposed` and `is_concatenated` of `experts`."""
        return self.adoption.experts if self.adoption else experts

    def routing_of(
        self, num_experts: int, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices and weights [tokens, top_k] that a call of the experts module receives, rows batch-major.

        An index of `num_experts` means that the token goes to no expert: never count it.
        """
        call = dict(zip(("hidden_states", "top_k_index", "top_k_weights"), args, strict=False)) | dict(kwargs)
        index, weights = call["top_k_index"], call["top_k_weights"]
        if self.is_no_expert:
            index = index.masked_fill(self.is_no_expert(index, weights, num_experts), num_experts)
        return index, weights


FAMILIES: Registry[Family] = Registry("model family", "moe_safety.families")
"""The families that are declared, by model type; a family that departs in nothing, and whose routers nothing has to
change, is served without."""
