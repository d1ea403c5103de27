"""A selection: the experts to repair, globally and for each batch, as `selection.json` keeps them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from moe_safety.errors import InputError
from moe_safety.identify.experts import Experts, Pair
from moe_safety.pipeline import BATCH_MASKS, MASK, SELECTION
from moe_safety.rundir import Missing, RunDir, spent


@dataclass(frozen=True)
class Selection:
    """Which experts, and by which rule they were chosen."""

    method: str
    score: str | None
    """None where nothing was ranked."""
    threshold: float | None
    top_k: int
    top_p: float | None
    model: str
    """The model's fingerprint."""
    experts: list[Pair]
    """Globally, best first; `global` in the file."""
    per_batch: Mapping[int, list[Pair]]
    """By `batch_idx`, each best first."""
    matches: str | None = None
    """The method whose selection a draw has the layers of."""
    masks: str | None = None
    """`identify.masks`, as far as it was given."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Hashes of what it was made from."""

    def union(self) -> list[Pair]:
        """Every expert that some batch selects, in order: what training may move."""
        return sorted(set().union(*self.per_batch.values()))

    def to_json(self) -> dict[str, Any]:
        """What `selection.json` holds."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        large = {"global": plain.pop("experts"), "per_batch": plain.pop("per_batch")}
        return plain | large

    def text(self) -> Iterator[str]:
        """`selection.json` in pieces, a batch a line: batches are many."""
        rest = self.to_json()
        del rest["per_batch"]
        yield json.dumps(rest, indent=1, ensure_ascii=False).removesuffix("\n}") + ',\n "per_batch": {'
        for number, (batch, pairs) in enumerate(self.per_batch.items()):
            yield f'{"," if number else ""}\n  "{batch}": {json.dumps(pairs)}'
        yield "\n }\n}\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any], file: object) -> Selection:
        """What `to_json` gave, after a round through a file; `file` is what an error names."""
        try:
            plain = {**data}
            chosen, per_batch = _pairs(plain.pop("global")), plain.pop("per_batch")
            by_batch = {int(batch): _pairs(experts) for batch, experts in per_batch.items()}
            return cls(**plain, experts=chosen, per_batch=by_batch)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError("is not a selection", file=file) from None


def read_selection(run: RunDir, name: str = SELECTION) -> Selection:
    """The selection of a run directory."""
    try:
        return Selection.from_json(run.read_json(name), run.path(name))
    except Missing:
        raise InputError("cannot be read as a selection", file=run.path(name)) from None


def write_selection(run: RunDir, experts: Experts, selection: Selection, folder: str = "") -> list[str]:
    """Writes the selection with its masks, and returns the names."""
    with spent("writing"), run.writing(f"{folder}{SELECTION}") as path, open(path, "w", encoding="utf-8") as file:
        file.writelines(selection.text())
    with _writing_mask(run, f"{folder}{MASK}", experts.shape) as write:
        write(_mask(experts, selection.experts))
    with _writing_mask(run, f"{folder}{BATCH_MASKS}", (len(selection.per_batch), *experts.shape)) as write:
        for pairs in selection.per_batch.values():
            write(_mask(experts, pairs))
    return [f"{folder}{name}" for name in (SELECTION, MASK, BATCH_MASKS)]


def _mask(experts: Experts, pairs: list[Pair]) -> np.ndarray:
    return experts.matrix(experts.members([pairs])[0], False)


@contextmanager
def _writing_mask(run: RunDir, name: str, shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], Any]]:
    """Takes the mask's rows, and writes them one after the other."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(bool)), "fortran_order": False, "shape": shape}
    with run.writing(name) as path, open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda rows: file.write(rows.tobytes())


def _pairs(pairs: list[list[int]]) -> list[Pair]:
    return [(int(layer), int(expert)) for layer, expert in pairs]
