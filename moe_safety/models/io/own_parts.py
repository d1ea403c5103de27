"""A checkpoint of which each of several workers reads what it keeps: an equal part of every parameter's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, modeling_utils

from moe_safety.errors import InputError
from moe_safety.models.io.save import DTYPES
from moe_safety.models.layout import inspect_model
from moe_safety.models.stored import open_checkpoint
from moe_safety.models.stored.owners import Shapes, loading_of, rows_of

Rows = tuple[int, int]
"""From the first to before the second."""

_TYPES = {name: dtype for dtype, name in DTYPES.items()}


@contextmanager
def own_parts(model: PreTrainedModel, folder: Path, rank: int, of: int) -> Iterator[None]:
    """Inside, transformers reads of the tensors in `folder` the rows that hold values which worker `rank` keeps; the
    others are anything. `model` is the model without weights."""
    kept = rows_kept(model, {name: one.shape for name, one in open_checkpoint(folder).tensors.items()}, rank, of)
    real = modeling_utils.safe_open
    modeling_utils.safe_open = lambda *given, **options: _File(real(*given, **options), kept)
    try:
        yield
    finally:
        modeling_utils.safe_open = real


def rows_kept(model: PreTrainedModel, shapes: Shapes, rank: int, of: int) -> Mapping[str, Rows]:
    """By tensor of the checkpoint, the rows that this worker needs. Those that are not named it reads whole, as all
    that is as large as the embedding: whether the head is that is seen by comparing them."""
    layers = {name: layer for layer in inspect_model(model).layers for name in layer.parameters}
    embedding = model.get_input_embeddings().weight.shape
    parameters = {name: one for name, one in model.named_parameters() if one.dim() and one.numel()}
    kept: dict[str, Rows] = {}
    for name, made in loading_of(model, shapes).items():
        if name not in parameters or parameters[name].shape == embedding:
            continue
        shape = tuple(parameters[name].shape)
        wanted = _rows_of_share(parameters[name], rank, of)
        if made.converter is None and shapes[made.sources[0][0]] == shape:
            kept[made.sources[0][0]] = wanted
        elif name in layers:
            # Where experts cannot be told apart, all of them are read.
            with suppress(InputError):
                for source, rows in rows_of(model, name, shape, made, shapes).items():
                    here = [at for at, row in enumerate(rows) if wanted[0] <= row < wanted[1]]
                    if not here:
                        kept[source] = (0, 0)
                    elif len(shapes[source]) == len(shape):
                        kept[source] = (here[0], here[-1] + 1)
    return kept


def _rows_of_share(parameter: torch.Tensor, rank: int, of: int) -> Rows:
    """DeepSpeed cuts a parameter's values, one after the other, into equal parts."""
    row, share = parameter.numel() // len(parameter), -(-parameter.numel() // of)
    return min(rank * share // row, len(parameter)), min(-(-(rank + 1) * share // row), len(parameter))


class _File:
    """An open file of safetensors."""

    def __init__(self, file: Any, kept: Mapping[str, Rows]) -> None:
        self.file, self.kept = file, kept

    def __enter__(self) -> _File:
        self.file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def get_slice(self, name: str) -> Any:
        found = self.file.get_slice(name)
        return _Part(found, self.kept[name]) if name in self.kept else found


class _Part:
    """A tensor of a file, of which some rows are read."""

    def __init__(self, stored: Any, rows: Rows) -> None:
        self.stored, self.rows = stored, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stored, name)

    def __getitem__(self, index: Any) -> torch.Tensor:
        first, end = self.rows
        shape, dtype = self.stored.get_shape(), _TYPES[self.stored.get_dtype()]
        if index is not ... or end - first == shape[0]:
            return self.stored[index]
        if first == end:
            return torch.zeros((), dtype=dtype).expand(shape)  # Takes no memory.
        whole = torch.empty(shape, dtype=dtype)
        whole[first:end] = self.stored[first:end]
        return whole
