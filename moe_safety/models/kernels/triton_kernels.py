"""Kernels for a GPU, in Triton: what `formulas` says, each in one pass over memory.

They take a fraction of a second to compile, once for all sizes but widths, and add up in a fixed order.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001
import torch
import triton
import triton.language as tl

_WIDE = 1024
"""Columns that one program handles at a time."""
_TILE = 16384
"""Numbers that one program of `dispatch` holds."""


def gate(both: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """As `formulas.gate`."""
    both, weight = both.contiguous(), weight.contiguous()
    rows, width = both.shape[0], both.shape[1] // 2
    out = both.new_empty(rows, width)
    if rows:
        _gate[_grid(rows, width)](both, weight, out, width, BLOCK=_block(width))
    return out


@triton.jit
def _gate(both, weight, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    first = tl.load(both + row * 2 * width + columns, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(both + row * 2 * width + width + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(weight + row).to(tl.float32)
    found = first * tl.sigmoid(first) * second * scale
    tl.store(out + row * width + columns, found.to(out.dtype.element_ty), mask=inside)


def gate_backward(both: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `formulas.gate_backward`."""
    both, weight, grad = both.contiguous(), weight.contiguous(), grad.contiguous()
    rows, width = grad.shape
    for_both, for_weight = torch.empty_like(both), torch.empty_like(weight)
    if rows:
        _gate_backward[(rows,)](both, weight, grad, for_both, for_weight, width, BLOCK=_block(width))
    return for_both, for_weight


@triton.jit
def _gate_backward(both, weight, grad, for_both, for_weight, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    scale = tl.load(weight + row).to(tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns < width
        first = tl.load(both + row * 2 * width + columns, mask=inside, other=0.0).to(tl.float32)
        second = tl.load(both + row * 2 * width + width + columns, mask=inside, other=0.0).to(tl.float32)
        slope = tl.load(grad + row * width + columns, mask=inside, other=0.0).to(tl.float32)
        share = tl.sigmoid(first)
        total += slope * first * share * second
        slope = slope * scale
        for_first = slope * second * share * (1 + first * (1 - share))
        for_second = slope * first * share
        kind = for_both.dtype.element_ty
        tl.store(for_both + row * 2 * width + columns, for_first.to(kind), mask=inside)
        tl.store(for_both + row * 2 * width + width + columns, for_second.to(kind), mask=inside)
    tl.store(for_weight + row, tl.sum(total, axis=0).to(for_weight.dtype.element_ty))


def summed(places: torch.Tensor, back: torch.Tensor, top_k: int) -> torch.Tensor:
    """As `formulas.summed`."""
    places = places.contiguous()
    rows, width = len(back) // top_k, places.shape[1]
    out = places.new_empty(rows, width)
    if rows:
        _summed[_grid(rows, width)](places, back, out, width, TOP_K=top_k, BLOCK=_block(width))
    return out


@triton.jit
def _summed(places, back, out, width, TOP_K: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    total = tl.zeros((BLOCK,), tl.float32)
    for choice in tl.static_range(TOP_K):
        place = tl.load(back + token * TOP_K + choice)
        total += tl.load(places + place * width + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + token * width + columns, total.to(out.dtype.element_ty), mask=inside)


def spread(tokens: torch.Tensor, back: torch.Tensor, top_k: int) -> torch.Tensor:
    """As `formulas.spread`."""
    tokens = tokens.contiguous()
    rows, width = tokens.shape
    out = tokens.new_empty(len(back), width)
    if rows:
        _spread[_grid(rows, width)](tokens, back, out, width, TOP_K=top_k, BLOCK=_block(width))
    return out


@triton.jit
def _spread(tokens, back, out, width, TOP_K: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    values = tl.load(tokens + token * width + columns, mask=inside)
    for choice in tl.static_range(TOP_K):
        place = tl.load(back + token * TOP_K + choice)
        tl.store(out + place * width + columns, values, mask=inside)


def turn(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `formulas.turn`."""
    return _turned(q, k, cos, sin, back=False)


def turn_back(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `formulas.turn_back`."""
    return _turned(q, k, cos, sin, back=True)


def _turned(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, back: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    # Heads stand behind tokens in memory, as the products that made them left it.
    q, k = (heads.transpose(1, 2).contiguous() for heads in (q, k))
    cos, sin = cos.contiguous(), sin.contiguous()
    rows, length, q_heads, width = q.shape
    k_heads, half = k.shape[2], width // 2
    outs = torch.empty_like(q), torch.empty_like(k)
    if rows and length:
        _turn[(rows * length, 2)](
            *(q, k, cos, sin, *outs),
            *(length, cos.shape[1] * width if len(cos) > 1 else 0, q_heads, k_heads, half),
            BACK=back,
            HEADS=_power(max(q_heads, k_heads)),
            HALF=_power(half),
        )
    return outs[0].transpose(1, 2), outs[1].transpose(1, 2)


@triton.jit(do_not_specialize=["length", "row_step"])
def _turn(
    q,
    k,
    cos,
    sin,
    q_out,
    k_out,
    length,
    row_step,
    q_heads,
    k_heads,
    half,
    BACK: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    at = (token // length) * row_step + (token % length) * 2 * half
    if tl.program_id(1) == 0:
        _turn_heads(q, q_out, cos + at, sin + at, token, q_heads, half, BACK, HEADS, HALF)
    else:
        _turn_heads(k, k_out, cos + at, sin + at, token, k_heads, half, BACK, HEADS, HALF)


@triton.jit
def _turn_heads(heads, out, cos, sin, token, count, half, BACK: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr):
    head, column = tl.arange(0, HEADS)[:, None], tl.arange(0, HALF)[None, :]
    within = column < half
    inside = (head < count) & within
    at = (token * count + head) * 2 * half + column
    first = tl.load(heads + at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(heads + at + half, mask=inside, other=0.0).to(tl.float32)
    cos_1 = tl.load(cos + column, mask=within, other=0.0).to(tl.float32)
    cos_2 = tl.load(cos + half + column, mask=within, other=0.0).to(tl.float32)
    sin_1 = tl.load(sin + column, mask=within, other=0.0).to(tl.float32)
    sin_2 = tl.load(sin + half + column, mask=within, other=0.0).to(tl.float32)
    if BACK:
        one = first * cos_1 + second * sin_2
        two = second * cos_2 - first * sin_1
    else:
        one = first * cos_1 - second * sin_1
        two = second * cos_2 + first * sin_2
    tl.store(out + at, one.to(out.dtype.element_ty), mask=inside)
    tl.store(out + at + half, two.to(out.dtype.element_ty), mask=inside)


def dispatch(index: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `formulas.dispatch`."""
    index = index.contiguous()
    places, wide = index.numel(), _power(experts)
    block = max(16, _TILE // wide)
    blocks = -(-places // block) or 1
    found = torch.empty(blocks + 1, wide, dtype=torch.int32, device=index.device)
    order, back = torch.empty(2, places, dtype=torch.int64, device=index.device).unbind()
    offsets = torch.empty(experts, dtype=torch.int32, device=index.device)
    _tally[(blocks,)](index, found, places, EXPERTS=wide, BLOCK=block, num_warps=8)
    _before[(wide,)](found, blocks, EXPERTS=wide, BLOCK=256)
    _place[(blocks,)](
        *(index, found, order, back, offsets, places, blocks, experts), EXPERTS=wide, BLOCK=block, num_warps=8
    )
    return order, back, offsets


@triton.jit(do_not_specialize=["places"])
def _tally(index, found, places, EXPERTS: tl.constexpr, BLOCK: tl.constexpr):
    """How many choices of each block go to each expert."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    chosen = tl.load(index + at, mask=at < places, other=EXPERTS)
    column = tl.arange(0, EXPERTS)
    equal = (chosen[:, None] == column[None, :]).to(tl.int32)
    tl.store(found + tl.program_id(0) * EXPERTS + column, tl.sum(equal, axis=0))


@triton.jit(do_not_specialize=["blocks"])
def _before(found, blocks, EXPERTS: tl.constexpr, BLOCK: tl.constexpr):
    """How many choices of each expert stand in earlier blocks; in place, and behind the last block in all."""
    expert = tl.program_id(0)
    total = 0
    for start in range(0, blocks, BLOCK):
        at = start + tl.arange(0, BLOCK)
        here = tl.load(found + at * EXPERTS + expert, mask=at < blocks, other=0)
        tl.store(found + at * EXPERTS + expert, total + tl.cumsum(here, axis=0) - here, mask=at < blocks)
        total += tl.sum(here, axis=0)
    tl.store(found + blocks * EXPERTS + expert, total)


@triton.jit(do_not_specialize=["places", "blocks", "experts"])
def _place(index, found, order, back, offsets, places, blocks, experts, EXPERTS: tl.constexpr, BLOCK: tl.constexpr):
    block = tl.program_id(0)
    at = block * BLOCK + tl.arange(0, BLOCK)
    inside = at < places
    column = tl.arange(0, EXPERTS)
    chosen = tl.load(index + at, mask=inside, other=EXPERTS)
    counted = column < experts
    total = tl.where(counted, tl.load(found + blocks * EXPERTS + column), 0)
    ends = tl.cumsum(total, axis=0)
    earlier = tl.where(counted, tl.load(found + block * EXPERTS + column), 0)
    equal = ((chosen[:, None] == column[None, :]) & counted[None, :]).to(tl.int32)
    rank = tl.cumsum(equal, axis=0) - equal
    place = tl.sum(equal * ((ends - total + earlier)[None, :] + rank), axis=1)
    # Choices of no expert stand behind all others, in their order.
    some = tl.sum(equal, axis=1)
    none = (inside & (some == 0)).to(tl.int32)
    nobody = tl.sum(total, axis=0) + block * BLOCK - tl.sum(earlier, axis=0) + tl.cumsum(none, axis=0) - none
    place = tl.where(some > 0, place, nobody)
    tl.store(back + at, place.to(tl.int64), mask=inside)
    tl.store(order + place, at.to(tl.int64), mask=inside)
    if block == 0:
        tl.store(offsets + column, ends, mask=counted)


def count(
    index: torch.Tensor, weights: torch.Tensor, counted: torch.Tensor, hits: torch.Tensor, units: torch.Tensor
) -> None:
    """As `formulas.count`."""
    rows, length = counted.shape
    top_k, index, weights = index.shape[-1], index.contiguous(), weights.contiguous()
    places, block = rows * length * top_k, 256
    _count[(-(-places // block),)](
        *(index, weights, counted.contiguous().view(torch.uint8), hits, units),
        *(places, length, hits.shape[-1] // rows),
        TOP_K=top_k,
        BLOCK=block,
    )


@triton.jit(do_not_specialize=["places", "length", "columns"])
def _count(index, weights, counted, hits, units, places, length, columns, TOP_K: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    token = at // TOP_K
    wanted = tl.load(counted + token, mask=at < places, other=0) != 0
    key = (token // length) * columns + tl.load(index + at, mask=wanted, other=0)
    weight = tl.load(weights + at, mask=wanted, other=0.0).to(tl.float64)
    # To the nearest whole number of 2^-32, even where between two: what is added leaves no bits behind the point.
    unit = ((weight * 4294967296.0 + 6755399441055744.0) - 6755399441055744.0).to(tl.int64)
    tl.atomic_add(hits + key, tl.full((BLOCK,), 1, tl.int64), mask=wanted)
    tl.atomic_add(units + key, unit, mask=wanted)


def magnitudes(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `formulas.magnitudes`."""
    rows = rows.contiguous()
    absolute, root = (torch.empty(len(rows), dtype=torch.float32, device=rows.device) for _ in range(2))
    if len(rows):
        _magnitudes[(len(rows),)](rows, absolute, root, rows.shape[1], BLOCK=_block(rows.shape[1]))
    return absolute, root


@triton.jit
def _magnitudes(rows, absolute, root, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    total, squares = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        values = tl.load(rows + row * width + columns, mask=columns < width, other=0.0).to(tl.float32)
        total += tl.abs(values)
        squares += values * values
    tl.store(absolute + row, tl.sum(total, axis=0))
    tl.store(root + row, tl.sqrt(tl.sum(squares, axis=0)))


def _block(width: int) -> int:
    return min(_WIDE, _power(width))


def _grid(rows: int, width: int) -> tuple[int, int]:
    return rows, -(-width // _block(width))


def _power(number: int) -> int:
    """The power of two that holds so many."""
    return 1 << (number - 1).bit_length()
