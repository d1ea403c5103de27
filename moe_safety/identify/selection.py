"""A selection: the experts to repair, globally and for each batch, as `selection.json` keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from moe_safety.errors import InputError
from moe_safety.identify.experts import Experts, Pair
from moe_safety.pipeline import BATCH_MASKS, MASK, SELECTION
from moe_safety.rundir import Missing, RunDir


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
        """The text of `selection.json`."""
        plain = asdict(self)
        large = {"global": plain.pop("experts"), "per_batch": plain.pop("per_batch")}
        return plain | large

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
    run.write_json(f"{folder}{SELECTION}", selection.to_json())
    _write_mask(run, f"{folder}{MASK}", experts.matrix(experts.members([selection.experts])[0], False))
    by_batch = experts.matrix(experts.members(list(selection.per_batch.values())), False)
    _write_mask(run, f"{folder}{BATCH_MASKS}", by_batch)
    return [f"{folder}{name}" for name in (SELECTION, MASK, BATCH_MASKS)]


def _write_mask(run: RunDir, name: str, mask: np.ndarray) -> None:
    with run.writing(name) as path, open(path, "wb") as file:
        np.save(file, mask, allow_pickle=False)


def _pairs(pairs: list[list[int]]) -> list[Pair]:
    return [(int(layer), int(expert)) for layer, expert in pairs]
