"""What putting planted experts back to their old values does to the attack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch

from benchmarks.planted.plant import Pair, Planted, answered, attack_rows


def success_by_subset(model: Planted) -> np.ndarray:
    """Attack success with every subset of the planted experts put back."""
    pupil, rows = attack_rows(model)
    return by_subset(model, lambda: answered(pupil, rows))


def by_subset(model: Planted, measure: Callable[[], float]) -> np.ndarray:
    """A measure with every subset of the planted experts put back; bit n of the index stands for the n-th.

    There are few planted experts, so that all subsets are tried: every order's curve, the best order's and the mean of
    all orders are exact.
    """
    found = np.empty(1 << len(model.experts))
    for subset in range(len(found)):
        with put_back(model, [pair for bit, pair in enumerate(model.experts) if subset >> bit & 1]):
            found[subset] = measure()
    return found


def put_back(model: Planted, experts: Iterable[Pair]) -> AbstractContextManager[None]:
    """Inside, these experts hold what they held before planting."""
    return _replaced(model, experts, model.before)


def held_back(model: Planted, experts: Iterable[Pair]) -> AbstractContextManager[None]:
    """Inside, these experts write nothing."""
    writing = {name: torch.zeros_like(value) for name, value in model.before.items() if name.endswith("down_proj")}
    return _replaced(model, experts, writing)


@contextmanager
def _replaced(model: Planted, experts: Iterable[Pair], values: Mapping[str, torch.Tensor]) -> Iterator[None]:
    kept = []
    for index, expert in experts:
        for name in model.layout.layers[model.layout.position(index)].parameters:
            if name in values:
                row = model.model.get_parameter(name).data[expert]
                kept.append((row, row.clone()))
                row.copy_(values[name][expert])
    try:
        yield
    finally:
        for row, before in kept:
            row.copy_(before)
