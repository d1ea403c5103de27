"""Attention over pages of keys and values in one Triton kernel: a program for a head of keys and a few queries.

A row's numbers come about in one order, page after page up to its own length, whatever else is in the pass.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001
from __future__ import annotations

import torch
import triton
import triton.language as tl

_ROWS = 64
"""Queries times heads that one program takes, a power of two."""


@triton.jit
def _attend(
    query,
    keys,
    values,
    out,
    slots,
    firsts,
    counts,
    table,
    scale,
    query_head,
    query_token,
    heads,
    key_place,
    value_place,
    table_row,
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
    PART: tl.constexpr,
    ROWS: tl.constexpr,
    DIM: tl.constexpr,
    WIDE: tl.constexpr,
    PAGE: tl.constexpr,
):
    block, head, begin = tl.program_id(0), tl.program_id(1), tl.program_id(2) * PART
    first, count = tl.load(firsts + block), tl.load(counts + block)
    pages = table + tl.load(slots + block) * table_row
    row, place, dim = tl.arange(0, ROWS), tl.arange(0, PAGE), tl.arange(0, WIDE)
    queries = begin + row // GROUP
    position, token = first + queries, block.to(tl.int64) * SIZE + queries
    own_head = head * GROUP + row % GROUP
    real = (row < PART * GROUP)[:, None] & (dim < DIM)[None, :]
    at = own_head[:, None] * query_head + token[:, None] * query_token + dim[None, :]
    asked = tl.load(query + at, mask=real, other=0.0)
    best = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    found = tl.zeros([ROWS, WIDE], tl.float32)
    for start in range(0, first + tl.minimum(count, begin + PART), PAGE):
        page = tl.load(pages + start // PAGE).to(tl.int64) * PAGE
        key = tl.load(
            keys + (page + place)[None, :] * key_place + head * DIM + dim[:, None], mask=(dim < DIM)[:, None], other=0.0
        )
        value = tl.load(
            values + (page + place)[:, None] * value_place + head * DIM + dim[None, :],
            mask=(dim < DIM)[None, :],
            other=0.0,
        )
        score = tl.dot(asked, key, input_precision="ieee") * scale
        score = tl.where((start + place)[None, :] <= position[:, None], score, float("-inf"))
        better = tl.maximum(best, tl.max(score, 1))
        kept, share = tl.exp2(best - better), tl.exp2(score - better[:, None])
        total = total * kept + tl.sum(share, 1)
        found = found * kept[:, None] + tl.dot(share.to(value.dtype), value, input_precision="ieee")
        best = better
    found = found / tl.where(total > 0, total, 1.0)[:, None]
    to = (token[:, None] * heads + own_head[:, None]) * DIM + dim[None, :]
    tl.store(out + to, found.to(out.dtype.element_ty), mask=real)


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    blocks: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    size: int,
    page: int,
    scale: float,
) -> torch.Tensor:
    """`query` is [heads, tokens, width], `keys` and `values` [places, heads of keys, width]; `blocks` says of each
    block of `size` queries its slot, first position and count, and then the pages of each slot. The result is
    [tokens, heads, width]."""
    heads, tokens, width = query.shape
    slots, firsts, counts, table = blocks
    group = heads // keys.shape[1]
    # A program takes as many queries as fill its registers well.
    part = min(size, 1 << (max(1, _ROWS // group).bit_length() - 1))
    out = torch.empty(tokens, heads, width, dtype=query.dtype, device=query.device)
    _attend[(tokens // size, keys.shape[1], size // part)](
        query,
        keys,
        values,
        out,
        slots,
        firsts,
        counts,
        table,
        scale * 1.4426950408889634,
        query.stride(0),
        query.stride(1),
        heads,
        keys.stride(0),
        values.stride(0),
        table.stride(0),
        GROUP=group,
        SIZE=size,
        PART=part,
        ROWS=max(16, triton.next_power_of_2(part * group)),
        DIM=width,
        WIDE=max(16, triton.next_power_of_2(width)),
        PAGE=page,
        num_warps=4,
        num_stages=2,
    )
    return out
