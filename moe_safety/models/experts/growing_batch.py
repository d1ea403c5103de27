"""A forward pass that begins with one row and gains one wherever experts are held back.

Above their layer a row joins: the untouched row, less what these experts added there. So the layers below are run once
for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from moe_safety.models.decoder import decoder_layers, decoder_of
from moe_safety.models.families import Family, family_of
from moe_safety.models.layout import MoELayer, MoELayout

Held = Sequence[tuple[int, Sequence[int]]]
"""What is held back, one entry at a time: a layer's position, in order, and experts of that layer."""


@contextmanager
def joining(model: PreTrainedModel, layout: MoELayout, held: Held, length: int) -> Iterator[list[int]]:
    """Inside, a forward pass over one row of `length` tokens gains a row for each entry above the entry's layer, if
    any token goes there. Yields the entries that joined, in the order of rows."""
    decoder = decoder_of(model)
    family, blocks = family_of(decoder.config), decoder_layers(decoder)
    joined: list[int] = []
    with ExitStack() as stack:
        for position, layer in enumerate(layout.layers):
            entries = {entry: experts for entry, (own, experts) in enumerate(held) if own == position}
            if entries:
                joint = _Joint(layer, family, entries, length, joined)
                experts = model.get_submodule(layer.experts)
                stack.callback(experts.register_forward_pre_hook(joint.watch, with_kwargs=True).remove)
                stack.callback(blocks[layer.index].register_forward_hook(joint.join).remove)
        yield joined


@dataclass
class _Joint:
    """Where the rows of one layer's entries begin."""

    layer: MoELayer
    family: Family
    entries: Mapping[int, Sequence[int]]
    length: int
    joined: list[int]
    added: torch.Tensor = field(init=False)
    """What the experts of each entry that joins add to the untouched row: [entries, length, hidden]."""

    def watch(self, module: Any, args: Any, kwargs: Any) -> None:
        """The untouched row is the first."""
        index, weights = (
            routed.view(-1, routed.shape[-1])[: self.length]
            for routed in self.family.routing_of(self.layer.num_experts, args, kwargs)
        )
        hidden = args[0] if args else kwargs["hidden_states"]
        tokens = hidden.view(-1, hidden.shape[-1])[: self.length]
        goes = self._members(index.device)[:, index]
        row, token, slot = goes.nonzero(as_tuple=True)
        there = goes.flatten(1).any(dim=1)
        row = (there.cumsum(dim=0) - 1)[row]
        rows = [entry for entry, any_token in zip(self.entries, there.tolist(), strict=True) if any_token]
        self.joined += rows
        # Each token with one of its experts is a row of its own to the module, whatever that does with the weight.
        added = module.forward(tokens[token], index[token, slot, None], weights[token, slot, None])
        nothing = added.new_zeros(len(rows), *tokens.shape)
        several = any(len(experts) > 1 for experts in self.entries.values())
        self.added = nothing.index_put_((row, token), added, accumulate=several)

    def _members(self, device: torch.device) -> torch.Tensor:
        """Which experts each entry holds back; one column more, for tokens that go to no expert."""
        members = torch.zeros(len(self.entries), self.layer.num_experts + 1, dtype=torch.bool)
        for row, experts in zip(members, self.entries.values(), strict=True):
            row[list(experts)] = True
        return (members.pin_memory() if device.type == "cuda" else members).to(device, non_blocking=True)

    def join(self, block: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.cat([output, output[:1] - self.added.to(output.device)])
