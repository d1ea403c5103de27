"""Low-rank factors: the arms `lora` and `lora-experts`, and what stands beside a matrix while it rests."""

import copy
from contextlib import suppress

import pytest
import torch
from pydantic import ValidationError

from moe_safety.arms import ARMS, Asked, names_of
from moe_safety.arms.low_rank import LowRankSettings, low_rank_experts
from moe_safety.arms.parameters import whole
from moe_safety.errors import InputError
from moe_safety.models import inspect_model
from moe_safety.models.experts import checkpointed, use_our_experts
from moe_safety.models.low_rank import low_rank
from moe_safety.train.optimizer import LazyAdamW
from tests.arms.test_field import trained
from tests.families import build

IDS = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(4))
OWN = LowRankSettings(rank=2)
FEW = [(0, 1), (0, 5), (2, 3)]
EVERYTHING = ARMS.get("lora").trains


def loss_of(model):
    return model(input_ids=IDS, labels=IDS, use_cache=False).loss


def step(model, parameters):
    optimizer = LazyAdamW(parameters, lr=1e-2)
    for _ in range(3):
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()


def bits(model):
    return {name: tensor.clone().view(torch.int32) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("family", ["olmoe", "gpt_oss", "deepseek_v3", "llama4_text"])
def test_every_matrix_gets_factors_and_the_model_is_plain_again(family):
    model = use_our_experts(build(family)).eval()
    before, names = bits(model), list(dict(model.named_parameters()))
    with torch.no_grad():
        logits = model(IDS).logits
    with EVERYTHING(model, Asked(inspect_model(model), own=OWN)) as trained:
        with torch.no_grad():
            assert torch.equal(model(IDS).logits, logits), "at first nothing is added"
        step(model, trained.parameters.values())
        assert all(each.any() for name, each in trained.parameters.items() if name.endswith(".b"))
        with trained.remember()(), torch.no_grad():
            assert torch.equal(model(IDS).logits, logits)
        with torch.no_grad():
            logits = model(IDS).logits
    assert torch.equal(model(IDS).logits, logits), "what it computed with is what is left"
    after = bits(model)
    assert sorted(names) == sorted(dict(model.named_parameters()))
    assert {name for name in before if not torch.equal(before[name], after[name])} == set(trained.changes)
    # `verify` lets these differ and no norm or bias beside them.
    assert names_of(ARMS.get("lora").parts, model, inspect_model(model)) == set(trained.changes)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_experts_outside_the_mask_rest_to_the_bit():
    model = use_our_experts(build("olmoe")).eval()
    layout, before = inspect_model(model), bits(model)
    with low_rank_experts(model, Asked(layout, FEW, own=OWN)) as trained:
        trained.selective.set_active([(0, 5)])
        step(model, trained.parameters.values())
        felt = {name: each.detach().flatten(1).any(dim=1).tolist() for name, each in trained.parameters.items()}
    assert {name: flags for name, flags in felt.items() if name.endswith(".b")} == {
        f"model.layers.{layer}.mlp.experts.trained_{own}.b": flags
        for layer, flags in ((0, [False, True]), (2, [False]))
        for own in ("gate_up_proj", "down_proj")
    }
    for name, tensor in bits(model).items():
        moved = (
            {n for n, row in enumerate((tensor != before[name]).flatten(1).any(1)) if row} if tensor.ndim > 1 else ()
        )
        assert set(moved) == ({5} if name in trained.changes and ".0." in name else set()), name


def test_biases_of_selected_experts_rest():
    model = use_our_experts(build("gpt_oss")).eval()
    layout, before = inspect_model(model), bits(model)
    with low_rank_experts(model, Asked(layout, layout.experts(), own=OWN)) as trained:
        step(model, trained.parameters.values())
    changed = {name for name, tensor in bits(model).items() if not torch.equal(tensor, before[name])}
    assert changed == set(trained.changes)
    assert not any("bias" in name for name in changed)


def test_a_zero_keeps_its_sign_where_nothing_is_added():
    model = build("olmoe")
    name = "model.layers.0.self_attn.q_proj.weight"
    with torch.no_grad():
        model.get_parameter(name)[0] = -0.0
    before = bits(model)
    with low_rank(model, [name], 2, 4.0, seed=0) as factors, torch.no_grad():
        factors.changes[name].b[1] = 1.0
    after = bits(model)
    assert (after[name] != before[name]).any(dim=1).nonzero()[:, 0].tolist() == [1]


def test_after_an_error_the_model_is_what_it_was():
    model = build("olmoe")
    before = bits(model)
    with suppress(KeyError), EVERYTHING(model, Asked(inspect_model(model), own=OWN)) as trained:
        step(model, trained.parameters.values())
        raise KeyError
    assert all(torch.equal(tensor, before[name]) for name, tensor in bits(model).items())


def test_layers_that_run_again_give_the_same_gradients():
    model = use_our_experts(build("olmoe")).eval()
    found = []
    for again in (False, True):
        copied = copy.deepcopy(model)
        with EVERYTHING(copied, Asked(inspect_model(copied), own=OWN)) as trained:
            step(copied, trained.parameters.values())
            if again:
                with checkpointed(copied):
                    loss_of(copied).backward()
            else:
                loss_of(copied).backward()
            found.append([each.grad for each in trained.parameters.values()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_whole_part_is_remembered_too():
    model = build("olmoe").eval()
    with torch.no_grad():
        logits = model(IDS).logits
    with whole("attention")(model, Asked(inspect_model(model))) as trained:
        as_before = trained.remember()
        step(model, trained.parameters.values())
        with torch.no_grad():
            with as_before():
                assert torch.equal(model(IDS).logits, logits)
            assert not torch.equal(model(IDS).logits, logits)


@pytest.mark.parametrize("arm", ["lora", "lora-experts"])
def test_what_zero_3_spreads_has_no_factors(tmp_path, arm):
    with pytest.raises(InputError, match=r"train\.deepspeed: low-rank factors .* take stage 2"):
        trained(tmp_path, arm, "train.launch=ray", "train.deepspeed=3")


def test_no_setting_turns_the_change_round():
    for wrong in ({"alpha": 0}, {"alpha": -1}, {"rank": 0}):
        with pytest.raises(ValidationError):
            LowRankSettings(**wrong)
