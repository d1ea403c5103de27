"""`delta apply` and `delta revert`: the same flip of bits, from the base to the tuned checkpoint or back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from moe_safety.errors import InputError
from moe_safety.models.stored import (
    Checkpoint,
    Delta,
    Stored,
    checkpoint_digest,
    content,
    contents_of,
    flip,
    open_checkpoint,
    read_delta,
)
from moe_safety.rundir import RunDir, in_threads, place_of, refusals

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx", ".index.json")


def apply_delta(base: str | Path, delta: str | Path, out: str | Path) -> None:
    """Writes the tuned checkpoint to the new folder `out`: the base's files, with the bits that changed."""
    read = read_delta(delta)
    _flip_folder(Path(base), read, out, before=read.base, after=read.tuned)


def revert_delta(tuned: str | Path, delta: str | Path, out: str | Path) -> None:
    """Writes the base checkpoint to the new folder `out`: the tuned one's files, with the bits set back."""
    read = read_delta(delta)
    _flip_folder(Path(tuned), read, out, before=read.tuned, after=read.base)


def _flip_folder(source: Path, delta: Delta, out: str | Path, *, before: str, after: str) -> None:
    run, name = place_of(str(out))
    if run.files(name) or (run.is_local and Path(run.path(name)).exists()):
        raise InputError("is there already", file=out)
    checkpoint = open_checkpoint(source)
    contents = dict(contents_of(checkpoint))
    if checkpoint_digest(checkpoint, contents, delta.left_out) != before:
        small = "; it is quantised, and a delta starts from full weights" if _is_quantised(source) else ""
        raise InputError(f"is not the checkpoint that {delta.file} is for{small}", file=source)
    flips = {name: delta.changes(name, checkpoint) for name in delta.tensors}
    with _new_folder(run, name) as folder:
        _copy(checkpoint, folder)

        def flipped(name: str) -> str:
            for block, bits in flips[name]:
                _flip(replace(block, file=folder / block.file.name), bits)
            tensor = checkpoint.tensors[name]
            return content(replace(tensor, file=folder / tensor.file.name))

        contents |= zip(flips, in_threads(flipped, flips), strict=True)
        if checkpoint_digest(checkpoint, contents, delta.left_out) != after:
            raise InputError("is damaged: what it makes is not what it was made from", file=delta.file)


def _is_quantised(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and "quantization_config" in json.loads(config.read_text())


def _flip(block: Stored, bits: Stored) -> None:
    at = block.start
    with open(block.file, "r+b") as file:
        for here, there in zip(block.chunks(), bits.chunks(), strict=True):
            file.seek(at)
            at += file.write(flip(here, there))


def _copy(checkpoint: Checkpoint, folder: Path) -> None:
    """All but hidden files, and weights in other formats, which would still be the old ones."""
    kept = checkpoint.files
    if checkpoint.folder / "model.safetensors" not in kept:
        kept.add(checkpoint.folder / "model.safetensors.index.json")

    def copy(path: Path) -> None:
        inside = path.relative_to(checkpoint.folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.is_file() and not hidden and (path in kept or not path.name.endswith(_WEIGHTS)):
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / inside)

    in_threads(copy, checkpoint.folder.rglob("*"))


@contextmanager
def _new_folder(run: RunDir, name: str) -> Iterator[Path]:
    """A folder to fill. It becomes `name` when the block ends well, and vanishes when it does not."""
    beside = Path(run.root if run.is_local else tempfile.gettempdir())
    filled = beside / f".{name}.{uuid.uuid4().hex}.tmp"
    try:
        with refusals(run.path(name), "; nothing was written"):
            filled.mkdir(parents=True)
            yield filled
            files = [path for path in filled.rglob("*") if path.is_file()]
            if run.is_local:
                in_threads(_sync, files)
                filled.rename(run.path(name))
            else:
                _upload(files, run, name, filled)
    finally:
        shutil.rmtree(filled, ignore_errors=True)


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _upload(files: list[Path], run: RunDir, name: str, filled: Path) -> None:
    """What nobody takes the folder for a model without goes last."""
    last = filled / "config.json"

    def put(path: Path) -> None:
        run.put(str(path), f"{name}/{path.relative_to(filled)}")

    in_threads(put, (path for path in files if path != last))
    in_threads(put, (path for path in files if path == last))
