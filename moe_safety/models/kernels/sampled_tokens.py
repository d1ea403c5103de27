"""Sampling as one Triton kernel: the largest of logits/T minus the logarithm of the noise of `models.text.noise`."""

# mypy: ignore-errors
# ruff: noqa: ANN001
from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def _mixed(word):
    word = word ^ (word >> 16)
    word = word * 0x7FEB352D
    word = word ^ (word >> 15)
    word = word * 0x846CA68B
    return word ^ (word >> 16)


@triton.jit
def _sample(
    logits,
    temperatures,
    firsts,
    seconds,
    out,
    width,
    row_stride,
    WIDE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    temperature = tl.load(temperatures + row)
    first = tl.load(firsts + row).to(tl.uint32)
    second = tl.load(seconds + row).to(tl.uint32)
    best = tl.full([WIDE], float("-inf"), tl.float32)
    which = tl.zeros([WIDE], tl.int32)
    for start in range(0, width, WIDE):
        token = start + tl.arange(0, WIDE)
        score = tl.load(logits + row * row_stride + token, mask=token < width, other=float("-inf")).to(tl.float32)
        if temperature > 0:
            word = _mixed(_mixed(token.to(tl.uint32) ^ first) ^ second)
            share = tl.minimum((word.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 0.99999994)
            score = score / temperature - tl.log(-libdevice.log1p(-share))
        better = score > best
        which = tl.where(better, token, which)
        best = tl.maximum(best, score)
    top = tl.max(best, 0)
    tl.store(out + row, tl.min(tl.where(best == top, which, 2147483647), 0))


def sample(logits: torch.Tensor, temperatures: torch.Tensor, keys: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The token of each row, given its keys of the noise."""
    rows, width = logits.shape
    out = torch.empty(rows, dtype=torch.int64, device=logits.device)
    _sample[(rows,)](logits, temperatures, *keys, out, width, logits.stride(0), WIDE=2048, num_warps=8)
    return out
