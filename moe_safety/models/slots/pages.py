"""Keys and values in pages, and the attention that reads them, registered with transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "moe_safety_pages"
PAGE = 64
"""Positions in a page."""


class NotServed(Exception):
    """The model cannot be served so; the message says why."""


@dataclass(frozen=True)
class Blocks:
    """The tokens of a pass: blocks of `size` queries that stand one after another in a prompt or an answer."""

    size: int
    slot: torch.Tensor
    """Of each block."""
    first: torch.Tensor
    """The position of its first query."""
    count: torch.Tensor
    """How many of its queries there are; the others are nobody's."""
    table: torch.Tensor
    """The pages of each slot. Page 0 is nobody's."""

    @property
    def valid(self) -> torch.Tensor:
        """Which queries are somebody's, [blocks, size]."""
        return torch.arange(self.size, device=self.slot.device) < self.count[:, None]

    @property
    def positions(self) -> torch.Tensor:
        """Of each query; 0 where it is nobody's."""
        each = self.first[:, None] + torch.arange(self.size, device=self.slot.device)
        return each * self.valid

    @property
    def places(self) -> torch.Tensor:
        """Where keys and values of each query go."""
        positions = self.positions
        pages = self.table[self.slot[:, None], positions // PAGE].long()
        return ((pages * PAGE + positions % PAGE) * self.valid).view(-1)


class Pages(Cache):
    """Keys and values of all layers. A layer's are made when it first asks for them."""

    def __init__(self, count: int) -> None:
        super().__init__(layers=[])
        self.count = count
        self.held: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.places = torch.empty(0, dtype=torch.long)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *rest: Any, **named: Any
    ) -> Any:
        """Stores what a pass found; all that the layer holds, [places, heads, width]."""
        if layer_idx not in self.held:
            # Zeros, since what is masked out is multiplied by nothing, and nothing times chance may be no number.
            sizes = [(self.count * PAGE, each.shape[1], each.shape[3]) for each in (key_states, value_states)]
            self.held[layer_idx] = key_states.new_zeros(sizes[0]), value_states.new_zeros(sizes[1])
        for held, new in zip(self.held[layer_idx], (key_states, value_states), strict=True):
            held.index_copy_(0, self.places, new[0].transpose(0, 1))
        return self.held[layer_idx]

    @property
    def bytes_per_page(self) -> int:
        """Of all layers together."""
        return sum(each.nbytes for pair in self.held.values() for each in pair) // self.count


_blocks: Blocks | None = None


@contextmanager
def reading(model: PreTrainedModel, blocks: Blocks, pages: Pages) -> Iterator[None]:
    """Inside, the model's attention reads pages, as these blocks say."""
    global _blocks
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = NAME
    _blocks, pages.places = blocks, blocks.places
    try:
        yield
    finally:
        _blocks = None
        for key, config in configs.items():
            config._attn_implementation = before[key]


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **asked: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function: `key` and `value` are all that the layer holds."""
    if _blocks is None or attention_mask is not None or key.ndim != 3 or query.shape[0] != 1:
        raise NotServed("its attention has another form")
    for name in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if asked.get(name) is not None:
            raise NotServed(f"its attention takes {name}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.is_cuda:
        if key.shape != value.shape:
            raise NotServed("keys and values of unequal widths")
        from moe_safety.models.kernels.paged_attention import attend

        blocks = _blocks.slot, _blocks.first, _blocks.count, _blocks.table
        return attend(query[0], key, value, blocks, _blocks.size, PAGE, scale)[None], None
    return attend_plainly(query[0], key, value, _blocks, scale)[None], None


def attend_plainly(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, blocks: Blocks, scale: float
) -> torch.Tensor:
    """What the kernel computes, in its order: page after page, so that what others need changes nothing."""
    heads, group = keys.shape[1], query.shape[0] // keys.shape[1]
    asked = query.view(heads, group, -1, blocks.size, query.shape[-1]).permute(2, 0, 1, 3, 4)
    position = (blocks.first[:, None] + torch.arange(blocks.size, device=query.device))[:, None, None, :, None]
    best = torch.full(asked.shape[:-1], -torch.inf, device=query.device)
    total, found = torch.zeros_like(best), query.new_zeros(*best.shape, values.shape[-1], dtype=torch.float32)
    offsets = torch.arange(PAGE, device=query.device)
    for number in range(-(-int((blocks.first + blocks.count).max()) // PAGE)):
        places = blocks.table[blocks.slot, number].long()[:, None] * PAGE + offsets
        key, value = (held[places].permute(0, 2, 1, 3)[:, :, None] for held in (keys, values))
        score = (asked @ key.transpose(-1, -2)).float() * scale
        score = score.masked_fill(number * PAGE + offsets > position, -torch.inf)
        better = torch.maximum(best, score.amax(-1))
        kept, share = (best - better).exp(), (score - better[..., None]).exp()
        total = total * kept + share.sum(-1)
        found = found * kept[..., None] + (share.to(value.dtype) @ value).float()
        best = better
    found = (found / total.clamp(min=1e-38)[..., None]).to(query.dtype)
    return found.permute(0, 3, 1, 2, 4).reshape(-1, query.shape[0], values.shape[-1])


ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
