from hypothesis import given
from hypothesis import strategies as st

from moe_safety.jobs import pack, spread


@given(st.lists(st.integers(1, 50)), st.integers(1, 200))
def test_every_row_is_in_one_group_that_fits(sizes, budget):
    groups = pack(sizes, budget)
    assert sorted(row for group in groups for row in group) == list(range(len(sizes)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(sizes[row] for row in group) <= budget


@given(st.lists(st.integers(1, 50), min_size=1))
def test_like_sizes_stand_together(sizes):
    order = [sizes[row] for group in pack(sizes, 60) for row in group]
    assert order == sorted(sizes, reverse=True)


def test_neighbours_share_a_group():
    assert [group.tolist() for group in pack([3, 9, 3, 3, 9], 18)] == [[1, 4], [0, 2, 3]]


@given(st.lists(st.lists(st.integers()), max_size=700))
def test_groups_are_gathered_in_order_into_few_items(groups):
    items = spread(groups, at_most=256)
    assert [group for item in items for group in item] == groups
    assert len(items) <= 256
    assert len(groups) > 256 or len(items) == len(groups)
