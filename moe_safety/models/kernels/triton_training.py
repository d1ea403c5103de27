# ruff: noqa: ANN001, ANN201
# mypy: ignore-errors
"""The kernels of training steps in Triton's language; imported only where Triton is there."""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def outer(
    left,
    right,
    left_rows,
    right_rows,
    ends,
    experts,
    active,
    found,
    wide,
    high,
    left_stride,
    right_stride,
    left_spread: tl.constexpr,
    right_spread: tl.constexpr,
    tile: tl.constexpr,
    depth: tl.constexpr,
):
    """A tile of one expert's sum of outer products."""
    across, down = tl.cdiv(high, tile), tl.cdiv(wide, tile)
    one = tl.program_id(0) // (across * down)
    at = tl.program_id(0) % (across * down)
    i = (at // across) * tile + tl.arange(0, tile)
    j = (at % across) * tile + tl.arange(0, tile)
    expert = tl.load(experts + one)
    stop = tl.load(ends + expert)
    start = tl.load(ends + expert - 1, mask=expert > 0, other=0)
    start = tl.where(tl.load(active + one) != 0, start, stop)
    total = tl.zeros((tile, tile), dtype=tl.float32)
    for place in range(start, stop, depth):
        k = place + tl.arange(0, depth)
        here = k < stop
        k_left, k_right = k.to(tl.int64), k.to(tl.int64)
        if left_spread:
            k_left = tl.load(left_rows + k, mask=here, other=0).to(tl.int64)
        if right_spread:
            k_right = tl.load(right_rows + k, mask=here, other=0).to(tl.int64)
        a = tl.load(
            left + k_left[:, None] * left_stride + i[None, :], mask=here[:, None] & (i < wide)[None, :], other=0
        )
        b = tl.load(
            right + k_right[:, None] * right_stride + j[None, :], mask=here[:, None] & (j < high)[None, :], other=0
        )
        total = tl.dot(tl.trans(a), b, total)
    out = found + one.to(tl.int64) * wide * high + i[:, None] * high + j[None, :]
    tl.store(out, total.to(found.dtype.element_ty), mask=(i < wide)[:, None] & (j < high)[None, :])


@triton.jit
def lazy_adamw(
    parameter,
    grad,
    master,
    exp_avg,
    exp_avg_sq,
    steps,
    elements,
    rate,
    gain1,
    gain2,
    log1,
    log2,
    eps,
    decay,
    block: tl.constexpr,
):
    """A block of the update; of one that rests whole nothing is read but the gradient. What rests in others is written
    as it was, since whole blocks go faster than masked ones."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < elements
    felt = tl.load(grad + at, mask=inside, other=0).to(tl.float32)
    moves = felt != 0
    if tl.max(moves.to(tl.int32), axis=0) != 0:
        count = tl.load(steps + at, mask=inside, other=0).to(tl.int32)
        first = tl.load(exp_avg + at, mask=inside, other=0)
        second = tl.load(exp_avg_sq + at, mask=inside, other=0)
        weight = tl.load(master + at, mask=inside, other=0)
        # The counts are of 16 bits, and stay at their most.
        count = tl.minimum(count + moves.to(tl.int32), 32767)
        first = tl.where(moves, first + gain1 * (felt - first), first)
        second = tl.where(moves, second + gain2 * (felt * felt - second), second)
        made = tl.maximum(count, 1).to(tl.float32)
        share1, share2 = -libdevice.expm1(made * log1), -libdevice.expm1(made * log2)
        moved = weight * (1 - rate * decay) - rate * (first / share1) / (tl.sqrt_rn(second / share2) + eps)
        weight = tl.where(moves, moved, weight)
        tl.store(steps + at, count.to(steps.dtype.element_ty), mask=inside)
        tl.store(exp_avg + at, first, mask=inside)
        tl.store(exp_avg_sq + at, second, mask=inside)
        tl.store(master + at, weight, mask=inside)
        tl.store(parameter + at, weight.to(parameter.dtype.element_ty), mask=inside)
