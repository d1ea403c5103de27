"""Splits goals into training, validation and test: by seed, stratum by stratum, whatever the order of the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.errors import InputError
from moe_safety.inputs.record import SPLITS


class Stratum(NamedTuple):
    """Goals that are split among themselves; the sizes add up over the categories of a kind."""

    kind: str
    category: str


def assign_splits(
    strata: Sequence[Stratum],
    stratum: np.ndarray,
    goals: Iterable[str],
    test_fraction: float,
    validation_fraction: float,
    seed: int,
) -> np.ndarray:
    """The split of each goal, as its place in `SPLITS`. `stratum` says which of the strata a goal is of; each has
    some."""
    digests = bytearray()
    for goal in goals:
        digests += _digest(goal, seed)
    words = np.frombuffer(digests, ">u8").reshape(-1, 4)
    order = np.lexsort((*reversed(words.T), stratum))
    members = np.split(order, np.cumsum(np.bincount(stratum, minlength=len(strata)))[:-1])
    splits = np.full(len(order), SPLITS.index("train"), np.int8)
    for kind in dict.fromkeys(one.kind for one in strata):
        own = {one.category: rows for one, rows in zip(strata, members, strict=True) if one.kind == kind}
        sizes = {category: len(rows) for category, rows in own.items()}
        test = _apportion(sizes, test_fraction, sizes, seed)
        room = {category: size - test[category] for category, size in sizes.items()}
        validation = _apportion(sizes, validation_fraction, room, seed)
        for category, rows in own.items():
            held_out = test[category] + validation[category]
            splits[rows[: test[category]]] = SPLITS.index("test")
            splits[rows[test[category] : held_out]] = SPLITS.index("validation")
    return splits


def check_no_leak(table: pa.Table) -> None:
    """A goal on two sides of the split is an error; `table` has the columns goal_id and split."""
    sides = table.group_by("goal_id").aggregate([("split", "distinct")])
    leaks = sides.filter(pc.greater(pc.list_value_length(sides["split_distinct"]), 1)).to_pylist()
    if leaks:
        goal, splits = leaks[0]["goal_id"], sorted(map(str, leaks[0]["split_distinct"]))
        raise InputError(f"goal {goal} stands in {' and in '.join(splits)} ({len(leaks)} goals leak)")


def _apportion(sizes: Mapping[str, int], fraction: float, room: Mapping[str, int], seed: int) -> dict[str, int]:
    """Each category's share of the fraction of all, by largest remainder; equal remainders are drawn by seed."""
    shares = {category: size * fraction for category, size in sizes.items()}
    seats = {category: min(int(share), room[category]) for category, share in shares.items()}
    total = min(round(sum(sizes.values()) * fraction), sum(room.values()))
    while (missing := total - sum(seats.values())) > 0:
        open_ = [category for category in _by_seed(shares, seed) if seats[category] < room[category]]
        open_.sort(key=lambda category: seats[category] - shares[category])
        for category in open_[:missing]:
            seats[category] += 1
    return seats


def _by_seed(names: Iterable[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: _digest(name, seed))


def _digest(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
