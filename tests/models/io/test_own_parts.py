import pytest
from safetensors import safe_open

from moe_safety.models.io import load_model, skeleton_of
from moe_safety.models.io.own_parts import _File, own_parts, rows_kept
from moe_safety.models.stored import open_checkpoint
from tests.train.test_spread import stored


@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "deepseek_v3"])
@pytest.mark.parametrize("of", [1, 2, 3])
def test_workers_read_the_whole_checkpoint_together_and_each_its_part(name, of, tmp_path):
    given = stored(name, tmp_path)
    tensors, model = open_checkpoint(tmp_path).tensors, skeleton_of(given)
    embedding = model.get_input_embeddings().weight.shape
    parts = [rows_kept(model, {name: one.shape for name, one in tensors.items()}, rank, of) for rank in range(of)]
    for name, tensor in tensors.items():
        read = [set(range(*part.get(name, (0, (tensor.shape or (1,))[0])))) for part in parts]
        assert set().union(*read) == set(range((tensor.shape or (1,))[0])), name
    large = {name: one for name, one in tensors.items() if ".experts." in name or "_proj" in name}
    assert all(one.shape != embedding for one in large.values())
    for part in parts:
        spans = {name: part.get(name, (0, one.shape[0])) for name, one in large.items()}
        read = sum(one.size * (spans[name][1] - spans[name][0]) / one.shape[0] for name, one in large.items())
        more = 0.2 if 8 % of else 0.02  # Of eight experts three workers need parts of the same.
        assert read <= (1 / of + more) * sum(one.size for one in large.values())


def test_a_part_of_a_file_is_that_part(tmp_path):
    stored("olmoe", tmp_path)
    file = safe_open(tmp_path / "model.safetensors", "pt")
    name = "model.layers.0.self_attn.q_proj.weight"
    whole = file.get_slice(name)[...]
    part = _File(file, {name: (3, 7)}).get_slice(name)
    assert part[...].shape == whole.shape
    assert part[...][3:7].equal(whole[3:7])
    nothing = _File(file, {name: (0, 0)}).get_slice(name)[...]
    assert (nothing.shape, nothing.untyped_storage().nbytes()) == (whole.shape, whole.element_size())
    assert _File(file, {}).get_slice(name)[...].equal(whole)


def test_what_is_loaded_inside_is_the_part(tmp_path):
    given = stored("olmoe", tmp_path)
    whole = load_model(given)
    with own_parts(skeleton_of(given), tmp_path, 1, 2):
        part = load_model(given)
    name = next(name for name, one in whole.named_parameters() if one.dim() == 3)
    own, others = slice(4, 8), slice(0, 4)
    assert part.get_parameter(name)[own].equal(whole.get_parameter(name)[own])
    assert not part.get_parameter(name)[others].any(), "the others were not read"
    assert load_model(given).get_parameter(name).equal(whole.get_parameter(name)), "outside all of it is"
