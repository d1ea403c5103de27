"""The experts of a model in order: what a column of every sum, score and mask stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from moe_safety.checks import Pair
from moe_safety.errors import InputError
from moe_safety.models import MoELayout


@dataclass(frozen=True)
class Experts:
    """Every (layer, expert) that exists, by layer, then expert. Places of wider layers' experts are left out."""

    layer: np.ndarray
    expert: np.ndarray
    flat: np.ndarray
    """Where each stands in a flattened [MoE layers, experts of the largest] matrix."""
    shape: tuple[int, int]

    @classmethod
    def of_layout(cls, layout: MoELayout) -> Experts:
        """The experts of a model with this layout."""
        sizes = [layer.num_experts for layer in layout.layers]
        return cls._of([layer.index for layer in layout.layers], sizes, layout.max_experts)

    @classmethod
    def of_shape(cls, layers: int, experts: int) -> Experts:
        """Without a layout a layer is known by its order."""
        return cls._of(list(range(layers)), [experts] * layers, experts)

    @classmethod
    def _of(cls, layers: list[int], sizes: list[int], width: int) -> Experts:
        expert = np.concatenate([np.arange(size) for size in sizes])
        row = np.repeat(np.arange(len(sizes)), sizes)
        return cls(np.repeat(layers, sizes), expert, row * width + expert, (len(sizes), width))

    def __len__(self) -> int:
        return len(self.flat)

    @cached_property
    def names(self) -> list[str]:
        """The names of the experts, as `L08_E42`."""
        return [f"L{layer:02d}_E{expert:02d}" for layer, expert in zip(self.layer, self.expert, strict=True)]

    @cached_property
    def columns(self) -> dict[Pair, int]:
        """The column of each expert."""
        return {pair: column for column, pair in enumerate(self._all)}

    @cached_property
    def _all(self) -> list[Pair]:
        return list(zip(self.layer.tolist(), self.expert.tolist(), strict=True))

    def pairs(self, columns: np.ndarray) -> list[Pair]:
        """The (layer, expert) pairs in these columns. An expert is one object in all of them: batches are many."""
        return [self._all[column] for column in columns.tolist()]

    def find(self, pairs: Iterable[Pair]) -> np.ndarray:
        """The columns of these experts."""
        try:
            return np.array([self.columns[int(layer), int(expert)] for layer, expert in pairs], dtype=np.int64)
        except KeyError as missing:
            layer, expert = missing.args[0]
            raise InputError(f"the model has no expert {expert} in layer {layer}") from None

    def members(self, selections: Sequence[Iterable[Pair]]) -> np.ndarray:
        """Which experts each selection holds, as bool [selections, experts]."""
        members = np.zeros((len(selections), len(self)), dtype=bool)
        for row, pairs in zip(members, selections, strict=True):
            row[self.find(pairs)] = True
        return members

    def holders(self, selections: Iterable[Iterable[Pair]]) -> np.ndarray:
        """How many of the selections hold each expert."""
        found = Counter(chain.from_iterable(selections))
        held = np.zeros(len(self), np.int64)
        held[self.find(found)] = list(found.values())
        return held

    def matrix(self, values: np.ndarray, fill: object) -> np.ndarray:
        """[..., experts] as [..., MoE layers, experts of the largest], with `fill` where no expert is."""
        filled = np.full((*values.shape[:-1], self.shape[0] * self.shape[1]), fill, dtype=values.dtype)
        filled[..., self.flat] = values
        return filled.reshape(*values.shape[:-1], *self.shape)
