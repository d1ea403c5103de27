"""Tensors that stand nowhere whole: in memory, or as what is stored with other rows in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from moe_safety.models.stored.checkpoint import CHUNK, Stored, rechunked


@dataclass(frozen=True)
class Held(Stored):
    """A tensor, or a part of one, in memory."""

    data: memoryview

    @classmethod
    def like(cls, tensor: Stored, data: memoryview) -> Held:
        """These bytes in the form of a tensor."""
        return cls(tensor.file, 0, len(data), tensor.dtype, tensor.shape, data)

    def block(self, index: int, of: int) -> Stored:
        # Of the plain form: a part of it lacks what this class adds.
        part = Stored(self.file, self.start, self.size, self.dtype, self.shape).block(index, of)
        return Held.like(part, self.data[index * part.size : (index + 1) * part.size])

    def chunks(self) -> Iterator[bytes]:
        return (bytes(self.data[at : at + CHUNK]) for at in range(0, self.size, CHUNK))


@dataclass(frozen=True)
class Mixed(Stored):
    """What two tensors give together, chunk by chunk."""

    one: Stored
    other: Stored
    mix: Callable[[bytes, bytes], bytes]

    @classmethod
    def of(cls, one: Stored, other: Stored, mix: Callable[[bytes, bytes], bytes]) -> Mixed:
        """In the form of the one."""
        return cls(one.file, one.start, one.size, one.dtype, one.shape, one, other, mix)

    def block(self, index: int, of: int) -> Stored:
        return Mixed.of(self.one.block(index, of), self.other.block(index, of), self.mix)

    def chunks(self) -> Iterator[bytes]:
        return map(self.mix, self.one.chunks(), self.other.chunks())


@dataclass(frozen=True)
class Patched(Stored):
    """A tensor with some rows in place of its own."""

    under: Stored
    rows: Mapping[int, Stored]

    @classmethod
    def of(cls, under: Stored, rows: Mapping[int, Stored]) -> Patched:
        """In the form of what is under it."""
        return cls(under.file, under.start, under.size, under.dtype, under.shape, under, rows)

    def block(self, index: int, of: int) -> Stored:
        if of == 1:
            return self
        return self.rows[index] if index in self.rows else self.under.block(index, of)

    def chunks(self) -> Iterator[bytes]:
        of = self.shape[0]
        return rechunked(chunk for row in range(of) for chunk in self.block(row, of).chunks())
