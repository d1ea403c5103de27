"""Noise for sampling, by counting: what a prompt's seed gives a token at a step is a function of these three numbers
alone, on any device and in any engine.

The largest of logits/T minus the logarithm of exponential noise is a sample of the softmax.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

_WORD = 0xFFFFFFFF
_STEP = 0x9E3779B9


def seed_words(seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Each seed as two numbers of 32 bits."""
    return [(seed & _WORD, seed >> 32 & _WORD) for seed in seeds]


def row_keys(low: torch.Tensor, high: torch.Tensor, step: torch.Tensor | int) -> tuple[torch.Tensor, torch.Tensor]:
    """What stands for a seed, in two words, at a step: two words again."""
    first = _mixed(_mixed(_mixed(low + _STEP & _WORD) ^ high) + step & _WORD)
    return first, _mixed(first + _STEP & _WORD)


def exponential_noise(low: torch.Tensor, high: torch.Tensor, step: torch.Tensor | int, width: int) -> torch.Tensor:
    """A row of so many numbers for each seed, exponentially distributed, in float32."""
    first, second = row_keys(low, high, step)
    tokens = torch.arange(width, device=low.device)
    word = _mixed(_mixed(tokens ^ first[:, None]) ^ second[:, None])
    share = ((word.to(torch.float32) + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    return -torch.log1p(-share)


def _mixed(word: torch.Tensor) -> torch.Tensor:
    """A permutation of words of 32 bits in which each bit of the result hangs on every bit of what is given."""
    word = word ^ word >> 16
    word = word * 0x7FEB352D & _WORD
    word = word ^ word >> 15
    word = word * 0x846CA68B & _WORD
    return word ^ word >> 16
