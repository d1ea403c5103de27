"""A delta in a loaded model: the tuned one inside, to the bit, and the base outside, whatever happened."""

import pytest
import torch

from moe_safety.checkpoints import extract_delta
from moe_safety.errors import InputError, RunError
from moe_safety.models import inspect_model
from moe_safety.models.io import swap
from moe_safety.models.io.swap import Flips
from tests.checkpoints.pairs import flip, flip_one_bit, load, save_base, save_tuned
from tests.families import FAMILIES


def bits(model):
    """Every parameter and buffer, as integers: not-a-number is not itself."""
    state = model.state_dict()
    return {name: tensor.detach().clone().contiguous().view(torch.uint8) for name, tensor in state.items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def pair(name, folder, experts, routers=(), **options):
    base = save_base(name, folder / "base", **options)
    tuned = save_tuned(base, folder / "tuned", experts, routers, **options)
    extract_delta(base, tuned, folder / "delta.safetensors")
    return base, tuned, folder / "delta.safetensors"


def check(base, tuned, delta):
    model, after = load(base), bits(load(tuned))
    before = bits(model)
    assert not same(before, after)
    flips = Flips.read(base, delta)
    for _ in range(2):
        with flips.inside(model):
            assert same(bits(model), after)
        assert same(bits(model), before)


@pytest.mark.parametrize("name", FAMILIES)
def test_in_and_out_again(name, tmp_path):
    layers = inspect_model(load(save_base(name, tmp_path / "base"))).layers
    first, last = layers[0], layers[-1]
    check(*pair(name, tmp_path, [(first.index, 2), (first.index, 7), (last.index, 5)], [last.index]))


@pytest.mark.parametrize("name", ["olmoe", "mixtral", "deepseek_v3", "granitemoe", "nemotron_h", "gpt_oss"])
def test_a_checkpoint_in_the_models_own_names_is_swapped_as_well(name, tmp_path):
    layer = inspect_model(load(save_base(name, tmp_path / "base", save_original_format=False))).layers[0]
    check(*pair(name, tmp_path, [(layer.index, 2), (layer.index, 6)], save_original_format=False))


def test_an_expert_of_which_only_one_matrix_changed(tmp_path):
    base = save_base("olmoe", tmp_path / "base", torch.bfloat16)
    model = load(base)
    layer = inspect_model(model).layers[1]
    fused = next(model.get_parameter(name) for name in layer.parameters if "gate_up" in name)
    flip(fused[3, fused.shape[1] // 2 :])
    model.save_pretrained(tmp_path / "tuned")
    extract_delta(base, tmp_path / "tuned", tmp_path / "delta.safetensors")
    check(base, tmp_path / "tuned", tmp_path / "delta.safetensors")


def test_a_failure_inside_leaves_the_base(tmp_path):
    base, _, delta = pair("olmoe", tmp_path, [(0, 3)])
    model = load(base)
    before = bits(model)
    seen = []

    def fail():
        with Flips.read(base, delta).inside(model):
            seen.append(bits(model))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not same(seen[0], before)
    assert same(bits(model), before)


def test_a_delta_that_stays_in_is_an_error_that_nobody_tries_again(tmp_path, monkeypatch):
    """Memory that ran out would be: with a smaller item, and with the delta taken out where it should be put in."""
    base, _, delta = pair("olmoe", tmp_path, [(0, 3)])
    model, flips = load(base), Flips.read(base, delta)

    def full(*given):
        raise torch.cuda.OutOfMemoryError("of this card")

    def run():
        with flips.inside(model):
            monkeypatch.setattr(swap, "_flip", full)

    with pytest.raises(RunError, match=r"delta\.safetensors: cannot be taken out of the model again: of this card"):
        run()


def test_a_failure_on_the_way_in_leaves_the_base(tmp_path):
    base, _, delta = pair("olmoe", tmp_path, [(0, 3), (2, 1)])
    model = load(base)
    last = Flips.read(base, delta)
    last.parts[-1].bits = last.parts[-1].bits.to(torch.int64)
    before = bits(model)
    with pytest.raises(InputError, match="is not in memory as the delta's base is stored"), last.inside(model):
        raise AssertionError
    assert same(bits(model), before)


def test_a_model_in_another_type_is_refused(tmp_path):
    base, _, delta = pair("olmoe", tmp_path, [(0, 3)])
    with pytest.raises(InputError, match="is not in memory as the delta's base is stored"):
        Flips.read(base, delta).flip(load(base).to(torch.bfloat16))


def test_a_delta_of_another_base_is_refused(tmp_path):
    base, _, delta = pair("olmoe", tmp_path, [(0, 3)])
    flip_one_bit(base, "model.norm.weight")
    with pytest.raises(InputError, match=r"base: is not the checkpoint that .*delta\.safetensors is for"):
        Flips.read(base, delta)
