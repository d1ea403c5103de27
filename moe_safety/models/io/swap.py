"""A delta put into a loaded model, and taken out again: bits are flipped in place, and flipped back.

A delta speaks the hub's names, so its bits go through the conversion that transformers loads weights by. That only
moves values, a row for each expert, and so moves bits as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from moe_safety.errors import InputError, RunError, first_line
from moe_safety.models.io.dequantised import dequantised
from moe_safety.models.io.skeleton import build_skeleton
from moe_safety.models.layout import inspect_model
from moe_safety.models.stored.checkpoint import Stored, open_checkpoint
from moe_safety.models.stored.delta import Delta, check_base, read_delta
from moe_safety.models.stored.owners import Loading, Shapes, loading_of, rows_of

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers by their width in bytes: as such bits are flipped and compared."""

Gather = Callable[[list[torch.nn.Parameter]], AbstractContextManager[object]]


@dataclass
class _Bits:
    """Those of one of the model's tensors."""

    name: str
    rows: list[int] | None
    """The rows that change; none where the bits are those of the whole tensor."""
    bits: torch.Tensor


@dataclass(frozen=True)
class Flips:
    """What a delta changes of a loaded model."""

    delta: Delta
    parts: list[_Bits]

    @classmethod
    def read(cls, base: Path, file: Path, *, trust_remote_code: bool = False) -> Flips:
        """From the delta's file and the folder that its base was loaded from, which is checked to be its base."""
        model, delta = build_skeleton(str(base), trust_remote_code=trust_remote_code), read_delta(file)
        opened = open_checkpoint(base)
        checkpoint = dequantised(opened, model.config, opened)
        check_base(checkpoint, delta)
        for name in delta.tensors:
            delta.changes(name, checkpoint)
        shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        return cls(delta, list(_parts(model, delta, shapes)))

    @torch.no_grad()
    def flip(self, model: PreTrainedModel, gather: Gather | None = None) -> None:
        """Puts the delta in, or takes it out where it is in. An error leaves the model as it was."""
        done: list[_Bits] = []
        try:
            for part in self.parts:
                _flip(model, part, gather)
                done.append(part)
        except BaseException:
            for part in done:
                _flip(model, part, gather)
            raise

    @contextmanager
    def inside(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside, the model is the tuned one; outside it is what it was, to the bit."""
        self.flip(model)
        try:
            yield
        finally:
            self._take_out(model)

    def _take_out(self, model: PreTrainedModel) -> None:
        try:
            self.flip(model)
        except Exception as error:
            # Such as too little memory: who tried again would take the model for the base, and flip it into that.
            told = first_line(error)
            raise RunError(f"{self.delta.file}: cannot be taken out of the model again: {told}") from error


def _flip(model: PreTrainedModel, part: _Bits, gather: Gather | None) -> None:
    owner, _, name = part.name.rpartition(".")
    tensor = getattr(model.get_submodule(owner), name)
    with gather([tensor]) if gather else nullcontext():
        data = tensor.data
        if data.is_meta or data.element_size() != part.bits.element_size():
            raise InputError(f"{part.name} is not in memory as the delta's base is stored, so no delta can be put in")
        part.bits = part.bits.to(data.device)
        values = data.view(part.bits.dtype)
        if part.rows is None:
            values.bitwise_xor_(part.bits.view(values.shape))
        else:
            rows = torch.tensor(part.rows, device=data.device)
            values.index_copy_(0, rows, values.index_select(0, rows).bitwise_xor_(part.bits))


def _parts(model: PreTrainedModel, delta: Delta, shapes: Shapes) -> Iterator[_Bits]:
    layers = {name: layer for layer in inspect_model(model).layers for name in layer.parameters}
    left = set(delta.tensors)
    for name, made in loading_of(model, shapes).items():
        changed = [source for source, _ in made.sources if source in left]
        left -= set(changed)
        if changed and made.converter is None:
            yield _Bits(name, delta.rows.get(changed[0]), _read(delta.tensors[changed[0]]))
        elif changed and name in layers:
            yield _converted(model, name, layers[name].parameters[name], made, delta, shapes)
        elif changed:
            whole = {source: _bits_of(source, shapes[source], changed, delta) for source, _ in made.sources}
            yield _Bits(name, None, _convert(model, name, made, whole))
    if left:
        raise InputError(f"changes {min(left)}, which the model does not load", file=delta.file)


def _converted(
    model: PreTrainedModel, name: str, shape: tuple[int, ...], made: Loading, delta: Delta, shapes: Shapes
) -> _Bits:
    """Of the rows that change alone: what is converted are their sources, with zeros for those that did not change."""
    of = rows_of(model, name, shape, Loading(deepcopy(made.converter), made.sources), shapes)
    changed = {source: delta.rows.get(source, range(len(of[source]))) for source in of if source in delta.tensors}
    wanted = sorted({of[source][row] for source, rows in changed.items() for row in rows})
    given: dict[str, torch.Tensor] = {}
    for source, rows in of.items():
        here = [row for row, its in enumerate(rows) if its in wanted]
        if len(shapes[source]) < len(shape):
            given |= {source: _bits_of(source, shapes[source], list(changed), delta)} if here else {}
            continue
        given[source] = _bits_of(source, (len(here), *shapes[source][1:]), [], delta, like=next(iter(changed)))
        if source in changed:
            given[source][[here.index(row) for row in changed[source]]] = _read(delta.tensors[source])
    found = _convert(model, name, made, given)
    if found.shape != (len(wanted), *shape[1:]) or any(rows != sorted(rows) for rows in of.values()):
        raise InputError(f"cannot be put into {name}; `moe-safety delta apply` writes a checkpoint", file=delta.file)
    return _Bits(name, wanted, found.contiguous())


def _bits_of(
    source: str, shape: tuple[int, ...], changed: list[str], delta: Delta, like: str | None = None
) -> torch.Tensor:
    """Those of one source; zeros where it did not change, as wide as those beside it."""
    if source in changed:
        return _read(delta.tensors[source]).view(shape)
    return torch.zeros(shape, dtype=INTEGERS[delta.tensors[like or changed[0]].width])


def _convert(model: PreTrainedModel, name: str, made: Loading, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
    assert made.converter is not None
    for source, pattern in made.sources:
        if source in given:
            made.converter.add_tensor(name, source, pattern, given[source])
    return made.converter.convert(name, model=model, config=model.config)[name]


def _read(bits: Stored) -> torch.Tensor:
    shape = bits.shape or (1,)
    # Copied when it is written to, which is what torch wants to know of memory that it takes over.
    return torch.from_numpy(np.memmap(bits.file, f"<i{bits.width}", "c", bits.start, shape))
