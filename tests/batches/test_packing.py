import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_safety.generation import Engine
from moe_safety.generation.answers import pack_prompts


@given(sizes=st.lists(st.integers(1, 600), max_size=300), budget=st.integers(1, 40_000))
def test_every_prompt_is_in_one_item_by_its_real_length(sizes, budget):
    groups = pack_prompts(sizes, budget, Engine.prompts_per_item)
    placed = [place for group in groups for place in group.tolist()]
    assert sorted(placed) == list(range(len(sizes)))
    assert [sizes[place] for place in placed] == sorted(sizes, reverse=True), "like lengths stand together"
    for group in groups:
        assert 1 <= len(group) <= Engine.prompts_per_item
        assert len(group) == 1 or sum(sizes[place] for place in group) <= budget


def test_a_file_of_attacks_is_work_for_eight_cards():
    """FlipAttack's file for OLMoE: 371 attacks with 365 to 423 tokens, and requests of 6 to 60; 128 new tokens each."""
    chance = np.random.default_rng(0)
    sizes = [*chance.integers(365, 424, 371), *chance.integers(6, 61, 326)]
    groups = pack_prompts([int(size) + 128 for size in sizes], 32768, Engine.prompts_per_item)
    assert len(groups) >= 11
    # Little hangs on it whether lengths are padded: rows of an item are alike.
    padded = sum(len(group) * max(sizes[place] for place in group) for group in groups)
    assert padded < 1.15 * sum(sizes)
