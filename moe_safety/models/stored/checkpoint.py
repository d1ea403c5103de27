"""A checkpoint as it lies on disk: its tensors as runs of bytes, of which a few megabytes are held at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from huggingface_hub import get_local_safetensors_metadata, parse_local_safetensors_file_metadata
from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError
from huggingface_hub.utils import SafetensorsFileMetadata

from moe_safety.errors import InputError

CHUNK = 1 << 23
"""Bytes that are held at once: a whole number of values of any type."""

_UNREADABLE = (SafetensorsParsingError, OSError, ValueError, AttributeError, KeyError, TypeError)


@dataclass(frozen=True)
class Stored:
    """One tensor, or a part of one."""

    file: Path
    start: int
    size: int
    dtype: str
    """As safetensors names it."""
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of values that it holds."""
        return prod(self.shape)

    @property
    def width(self) -> int:
        """Bytes of one value; 1 where several share a byte."""
        return max(1, self.size // max(1, self.count))

    @property
    def form(self) -> tuple[str, tuple[int, ...], int]:
        """What two tensors must share for their bytes to be compared."""
        return self.dtype, self.shape, self.size

    def block(self, index: int, of: int) -> Stored:
        """One of `of` equal parts along the first axis; all of it where there is one."""
        size = self.size // of
        shape = (1, *self.shape[1:]) if of > 1 else self.shape
        return replace(self, start=self.start + index * size, size=size, shape=shape)

    def chunks(self) -> Iterator[bytes]:
        """Its bytes in order, `CHUNK` at a time."""
        with open(self.file, "rb") as stream:
            stream.seek(self.start)
            for left in range(self.size, 0, -CHUNK):
                data = stream.read(min(CHUNK, left))
                if len(data) < min(CHUNK, left):
                    raise InputError("became shorter while it was read", file=self.file)
                yield data


@dataclass(frozen=True)
class Checkpoint:
    """A folder of safetensors files, one or many."""

    folder: Path
    tensors: Mapping[str, Stored]
    """By name, sorted."""

    @property
    def files(self) -> set[Path]:
        """The files that hold the tensors."""
        return {tensor.file for tensor in self.tensors.values()}


def open_checkpoint(folder: str | Path) -> Checkpoint:
    """Reads the headers of the folder's files, and checks that the files are whole."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("is not a folder", file=folder)
    try:
        metadata = get_local_safetensors_metadata(folder)
    except NotASafetensorsRepoError:
        raise InputError("holds no model.safetensors and no index of shards", file=folder) from None
    except _UNREADABLE as error:
        raise InputError(f"cannot be read as a checkpoint: {error}", file=folder) from None
    tensors: dict[str, Stored] = {}
    for name, header in metadata.files_metadata.items():
        if Path(name).name != name:
            raise InputError(f"its index names a file of another folder, {name}", file=folder)
        here = _tensors(folder / name, header)
        if twice := here.keys() & tensors.keys():
            raise InputError(f"holds {min(twice)} in two files", file=folder)
        tensors |= here
    if tensors.keys() != metadata.weight_map.keys():
        name = min(tensors.keys() ^ metadata.weight_map.keys())
        raise InputError(f"its index and its files disagree about {name}", file=folder)
    return Checkpoint(folder, dict(sorted(tensors.items())))


def open_file(file: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors of one safetensors file, and its metadata."""
    try:
        header = parse_local_safetensors_file_metadata(file)
    except _UNREADABLE as error:
        raise InputError(f"is not a safetensors file: {error}", file=file) from None
    return _tensors(file, header), header.metadata


def _tensors(file: Path, header: SafetensorsFileMetadata) -> dict[str, Stored]:
    with open(file, "rb") as stream:
        data = 8 + int.from_bytes(stream.read(8), "little")
    tensors = {}
    end = data
    # Without holes, as the format demands: then no tensor can reach into another.
    for name, info in sorted(header.tensors.items(), key=lambda item: tuple(item[1].data_offsets)):
        begin, stop = info.data_offsets
        tensors[name] = Stored(file, end, stop - begin, info.dtype, tuple(info.shape))
        if data + begin != end or stop < begin or tensors[name].width not in (1, 2, 4, 8):
            raise InputError(f"its header is wrong about {name}", file=file)
        end = data + stop
    if file.stat().st_size != end:
        raise InputError(f"is {file.stat().st_size} bytes long where its header tells of {end}", file=file)
    return tensors


def rechunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, `CHUNK` at a time."""
    pending = bytearray()
    for piece in pieces:
        pending += piece
        while len(pending) >= CHUNK:
            yield bytes(pending[:CHUNK])
            del pending[:CHUNK]
    if pending:
        yield bytes(pending)
