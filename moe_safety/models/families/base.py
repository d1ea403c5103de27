"""What the experts interface of transformers leaves unsaid about a family; most families need nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward

if TYPE_CHECKING:
    from moe_safety.models.layout import MoELayer

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
        chosen = ALL_EXPERTS_FUNCTIONS.get_interface(self.config._experts_implementation, grouped_mm_experts_forward)
        return chosen(self, hidden, index, weights)


class Family:
    """A family whose experts use the interface. Exceptions override what differs."""

    experts_class: ClassVar[str | None] = None
    """For experts outside the interface: the name of their class."""
    adopted_experts: ClassVar[type[AdoptedExperts] | None] = None
    """What to mix into that class so that they use it."""
    adopted_block: ClassVar[type | None] = None
    """The same for the module that calls them, where the call itself differs."""

    def is_experts(self, module: torch.nn.Module) -> bool:
        """Whether `module` holds a layer's routed experts."""
        if self.experts_class:
            return type(module).__name__ == self.experts_class
        return all(hasattr(module, trait) for trait in _TRAITS)

    def traits(self, experts: torch.nn.Module) -> Any:
        """What has `has_gate`, `has_bias`, `is_transposed` and `is_concatenated` of `experts`."""
        return self.adopted_experts or experts

    def routing_of(
        self, layer: MoELayer, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices and weights [tokens, top_k] that a call of the experts module receives, rows batch-major.

        An index of `layer.num_experts` means that the token goes to no expert: never count it.
        """
        call = dict(zip(("hidden_states", "top_k_index", "top_k_weights"), args, strict=False)) | dict(kwargs)
        return call["top_k_index"], call["top_k_weights"]
