import pytest
import torch
from safetensors.torch import load_file

from moe_safety.models.experts import use_our_experts
from moe_safety.models.save import save_model
from tests.families import FAMILIES, build


def tensors(folder):
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_files_hold_what_transformers_writes(name, tmp_path):
    model = use_our_experts(build(name))
    model.save_pretrained(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    save_model(model, tmp_path / "ours", shard=20_000)
    ours, theirs = tensors(tmp_path / "ours"), tensors(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in theirs)
    assert len(list((tmp_path / "ours").glob("model-*-of-*.safetensors"))) > 1
    read = type(model).from_pretrained(tmp_path / "ours")
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in read.state_dict().items())
