"""A quantised checkpoint as the weights that are loaded from it: dequantised piece by piece while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from moe_safety.errors import InputError
from moe_safety.models.io.quantised import quantisation_of
from moe_safety.models.stored.checkpoint import Checkpoint, Stored, rechunked

_FULL = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_STORED = _FULL | {"U8": torch.uint8, "F8_E4M3": torch.float8_e4m3fn}


def dequantised(checkpoint: Checkpoint, config: Any, like: Checkpoint) -> Checkpoint:
    """The checkpoint as it is, or dequantised, in the types that `like` has its tensors in."""
    method = quantisation_of(config, checkpoint.folder)
    if method is None:
        return checkpoint
    kind = {"mxfp4": _Mxfp4, "fp8": _Fp8}[method]
    tensors = dict(checkpoint.tensors)
    for name in checkpoint.tensors:
        if name.endswith(kind.scales_end):
            full = name.removesuffix(kind.scales_end)
            scales, numbers = tensors.pop(name), tensors.pop(full + kind.numbers_end, None)
            known = like.tensors.get(full)
            dtype = known.dtype if known and known.dtype in _FULL else "BF16"
            if numbers is None or not kind.fits(numbers, scales):
                raise InputError(f"holds {name} in a form that is not dequantised here", file=checkpoint.folder)
            tensors[full] = kind.of(numbers, scales, dtype)
    return Checkpoint(checkpoint.folder, dict(sorted(tensors.items())))


@dataclass(frozen=True)
class _Dequantised(Stored):
    """A tensor of which small numbers are stored, and scales."""

    numbers: Stored
    scales: Stored

    numbers_end: ClassVar[str]
    """What is added to the tensor's name for the one and the other."""
    scales_end: ClassVar[str]

    @classmethod
    def fits(cls, numbers: Stored, scales: Stored) -> bool:
        raise NotImplementedError

    @classmethod
    def full_shape(cls, numbers: Stored) -> tuple[int, ...]:
        raise NotImplementedError

    @classmethod
    def of(cls, numbers: Stored, scales: Stored, dtype: str) -> _Dequantised:
        shape = cls.full_shape(numbers)
        return cls(numbers.file, 0, prod(shape) * _FULL[dtype].itemsize, dtype, shape, numbers, scales)

    def block(self, index: int, of: int) -> Stored:
        parts = {name: getattr(self, name).block(index, of) for name in ("numbers", "scales")}
        return replace(super().block(index, of), **parts)

    def chunks(self) -> Iterator[bytes]:
        wide = (values.to("cpu", _FULL[self.dtype]).contiguous() for values in self.values())
        return rechunked(values.view(torch.uint8).numpy().tobytes() for values in wide)

    def values(self) -> Iterator[torch.Tensor]:
        """The weights in order, a piece at a time."""
        raise NotImplementedError


class _Mxfp4(_Dequantised):
    """Experts of gpt-oss: two numbers to a byte, 32 to a scale, inputs and outputs swapped."""

    numbers_end = "_blocks"
    scales_end = "_scales"

    @classmethod
    def fits(cls, numbers: Stored, scales: Stored) -> bool:
        return numbers.dtype == scales.dtype == "U8" and numbers.shape == (*scales.shape, 16) and len(scales.shape) == 3

    @classmethod
    def full_shape(cls, numbers: Stored) -> tuple[int, ...]:
        experts, outputs, groups, _ = numbers.shape
        return experts, 32 * groups, outputs

    def values(self) -> Iterator[torch.Tensor]:
        for expert in range(self.shape[0]):
            numbers, scales = (_load(each.block(expert, self.shape[0])) for each in (self.numbers, self.scales))
            shape = self.numbers.shape[1:]
            yield convert_moe_packed_tensors(
                numbers.view(1, *shape), scales.view(1, *shape[:-1]), dtype=_FULL[self.dtype]
            )


class _Fp8(_Dequantised):
    """A scale to each tile of a matrix."""

    numbers_end = ""
    scales_end = "_scale_inv"

    @classmethod
    def fits(cls, numbers: Stored, scales: Stored) -> bool:
        tiled = all(size % tiles == 0 for size, tiles in zip(numbers.shape, scales.shape, strict=False))
        same = len(numbers.shape) == len(scales.shape) and numbers.shape[:-2] == scales.shape[:-2]
        return numbers.dtype == "F8_E4M3" and scales.dtype in _FULL and same and tiled

    @classmethod
    def full_shape(cls, numbers: Stored) -> tuple[int, ...]:
        return numbers.shape

    def values(self) -> Iterator[torch.Tensor]:
        rows, tiles = prod(self.scales.shape[:-1]), self.scales.shape[-1]
        for row in range(rows):
            numbers, scales = (_load(each.block(row, rows)).float() for each in (self.numbers, self.scales))
            yield numbers.view(-1, tiles, self.shape[-1] // tiles) * scales.view(-1, 1)


def _load(part: Stored) -> torch.Tensor:
    return torch.frombuffer(bytearray(b"".join(part.chunks())), dtype=_STORED[part.dtype])
