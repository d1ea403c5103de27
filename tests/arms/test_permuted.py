"""The control of masks: each batch trains another one's, and the arm as a whole trains what its own arm does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_safety.arms import ARMS, seeded_arms
from moe_safety.errors import InputError
from moe_safety.identify import read_selection
from moe_safety.identify.identify import identify
from moe_safety.identify.select import permuted
from moe_safety.identify.selection import Selection
from moe_safety.rundir import RunDir
from moe_safety.train.several import train_and_verify
from moe_safety.train.verified import verified
from tests.identify.synthetic import invent
from tests.train.byhand import configured

PERMUTED = [f"selective-{method}-permuted" for method in ("routing", "gradient", "causal")]
MASKS = {1: [(0, 1)], 2: [(0, 2), (1, 2)], 3: [(2, 3)], 4: []}


@given(st.lists(st.sampled_from([*MASKS]), min_size=1, max_size=12), st.integers(0, 50))
def test_no_batch_keeps_its_own_mask_wherever_none_has_to(which, seed):
    own = {10 * batch: MASKS[mask] for batch, mask in enumerate(which)}
    if len(set(which)) == 1:
        with pytest.raises(InputError, match=r"identify\.masks: every batch has the same mask"):
            permuted(own, seed)
        return
    given = permuted(own, seed)
    assert list(given) == list(own)
    assert sorted(given.values()) == sorted(own.values()), "every mask is there as often as before"
    most = max(which.count(mask) for mask in which)
    kept = [batch for batch in own if given[batch] == own[batch]]
    # Of a mask that more than half of the batches have, so many have to keep it.
    assert len(kept) == max(0, 2 * most - len(which))
    assert given == permuted(own, seed)


def test_seeds_draw_differently_and_a_batch_may_get_any_other_s_mask():
    own = {batch: [(0, batch)] for batch in range(4)}
    drawn = [permuted(own, seed) for seed in range(60)]
    assert {given[0][0][1] for given in drawn} == {1, 2, 3}
    assert len({str(given) for given in drawn}) == 6, "every round of all four"


@pytest.mark.parametrize("name", PERMUTED)
@pytest.mark.parametrize("method", ["routing", "causal"])
def test_it_controls_for_its_own_arm_and_is_never_chosen(tmp_path, name, method):
    config = configured(tmp_path, [(0, 1)], f"compare.arms=[{name}]", "compare.seeds=[7]", f"identify.method={method}")
    arm, repeat = seeded_arms(config)
    assert arm.control_of == name.removesuffix("-permuted")
    assert ARMS.get(name).is_control
    assert not ARMS.get(name).repairs
    assert arm.selection != ARMS.get(arm.control_of).choice.method
    assert arm.selection != repeat.selection, "another seed draws anew"
    assert arm.config.identify.method == ARMS.get(arm.control_of).method


def test_it_has_the_experts_of_its_own_arm_and_each_mask_stands_with_another_batch(tmp_path):
    config = invent(goals=24, per_batch=4, seed=3).write(tmp_path, threshold=0.0, top_k=2)
    compared = config.compare.model_copy(update={"arms": [PERMUTED[0]]})
    config = config.model_copy(update={"compare": compared})
    identify(config)
    (arm,) = seeded_arms(config)
    arm.select()
    run = RunDir(config.run_dir)
    own, given = read_selection(run), read_selection(run, arm.selection)
    assert (given.method, given.experts, given.union()) == ("routing_permuted", own.experts, own.union())
    assert sorted(given.per_batch.values()) == sorted(own.per_batch.values())
    assert not [batch for batch in own.per_batch if given.per_batch[batch] == own.per_batch[batch]]
    arm.select()


def test_each_batch_trains_the_other_s_mask_and_nothing_else_moves(tmp_path):
    flags = ["compare.arms=[selective-routing-permuted]", "train.num_epochs=1", "train.batches_per_worker=1"]
    config = configured(tmp_path / "run", [(0, 1), (2, 3), (3, 8)], *flags)
    run, (arm,) = RunDir(config.run_dir), seeded_arms(config)
    own = read_selection(run)
    given = permuted(own.per_batch, config.seed)
    made = Selection(**{**vars(own), "method": "routing_permuted", "per_batch": given})
    run.write_json(arm.selection, made.to_json())
    train_and_verify(arm, force=False)
    found = verified(run, arm)
    assert found["verify"] == "pass"
    assert {tuple(pair) for pair in found["experts"]} <= set(own.union())
    masks = np.load(run.path("train/selective-routing-permuted/batch_expert_masks.npy"))
    assert [[tuple(pair) for pair in np.argwhere(mask).tolist()] for mask in masks] == [given[0], given[1]]
    assert given == {0: own.per_batch[1], 1: own.per_batch[0]}


def test_where_every_batch_trains_all_of_them_nothing_can_be_exchanged(tmp_path):
    config = configured(tmp_path, [(0, 1)], f"compare.arms=[{PERMUTED[0]}]", "train.masking=union")
    with pytest.raises(InputError, match=r"train\.masking: union trains every mask in each batch"):
        seeded_arms(config)[0].select()
