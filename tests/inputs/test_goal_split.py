"""Properties of the split by goal."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_safety.errors import InputError
from moe_safety.inputs.record import SPLITS
from moe_safety.inputs.split import Stratum, check_no_leak
from moe_safety.inputs.split import assign_splits as assign_numbered


def assign_splits(goals, *settings):
    """The split of each goal by its id, of strata by goal."""
    there = [*dict.fromkeys(goals.values())]
    numbers = np.array([there.index(stratum) for stratum in goals.values()], int)
    assigned = assign_numbered(there, numbers, goals, *settings)
    return dict(zip(goals, (SPLITS[one] for one in assigned), strict=True))


strata = st.dictionaries(
    st.text("abcdef0123456789", min_size=4, max_size=16),
    st.builds(Stratum, st.sampled_from(["harmful", "benign"]), st.sampled_from(["", "a", "b", "c", "d", "e"])),
    max_size=120,
)
fractions = st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)).filter(lambda pair: sum(pair) < 1)
seeds = st.integers(0, 2**32)


@given(strata, fractions, seeds)
def test_every_goal_gets_one_side_and_sizes_are_as_close_as_can_be(strata, fractions, seed):
    test, validation = fractions
    splits = assign_splits(strata, test, validation, seed)
    assert splits.keys() == strata.keys()
    for kind in ("harmful", "benign"):
        goals = [goal for goal in strata if strata[goal].kind == kind]
        sizes = Counter(splits[goal] for goal in goals)
        assert sizes["test"] == round(len(goals) * test)
        assert sizes["validation"] == round(len(goals) * validation)
        assert sizes.keys() <= {"train", "validation", "test"}


@given(strata, fractions, seeds)
def test_each_category_gives_its_share_of_the_test_goals(strata, fractions, seed):
    splits = assign_splits(strata, *fractions, seed)
    for stratum, size in Counter(strata.values()).items():
        chosen = sum(splits[goal] == "test" for goal in strata if strata[goal] == stratum)
        assert abs(chosen - size * fractions[0]) < 1 + 1e-9


@given(strata, fractions, seeds, st.randoms())
def test_the_order_of_goals_does_not_matter(strata, fractions, seed, random):
    shuffled = list(strata.items())
    random.shuffle(shuffled)
    assert assign_splits(dict(shuffled), *fractions, seed) == assign_splits(strata, *fractions, seed)


def test_the_seed_decides():
    goals = {f"{number:016x}": Stratum("harmful", "") for number in range(100)}
    sides = [tuple(assign_splits(goals, 0.2, 0.1, seed).items()) for seed in (1, 1, 2)]
    assert sides[0] == sides[1] != sides[2]


def test_goals_alone_in_their_category_are_drawn_by_seed_too():
    goals = {f"{number:016x}": Stratum("harmful", f"category {number}") for number in range(10)}
    drawn = set()
    for seed in range(40):
        splits = assign_splits(goals, 0.2, 0.1, seed)
        assert Counter(splits.values()) == {"test": 2, "validation": 1, "train": 7}
        drawn |= {goal for goal, split in splits.items() if split == "test"}
    assert drawn == goals.keys()


def test_the_test_goals_of_a_stratum_do_not_depend_on_other_strata():
    harmful = {f"{number:016x}": Stratum("harmful", "") for number in range(50)}
    benign = {f"benign {number}": Stratum("benign", "") for number in range(30)}
    both = assign_splits(harmful | benign, 0.2, 0.1, 5)
    assert assign_splits(harmful, 0.2, 0.1, 5).items() <= both.items()


def test_a_leak_is_found():
    table = pa.table({"goal_id": ["a", "a", "b", "b"], "split": ["train", "train", "test", "test"]})
    check_no_leak(table)
    check_no_leak(table.slice(0, 0))
    leaking = pa.table({"goal_id": ["a", "b", "a"], "split": ["train", "test", "test"]})
    with pytest.raises(InputError, match="goal a stands in test and in train"):
        check_no_leak(leaking)
