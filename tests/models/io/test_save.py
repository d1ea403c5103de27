from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from moe_safety.models.decoder import decoder_layers, decoder_of
from moe_safety.models.experts import use_our_experts
from moe_safety.models.io.save import save_model
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


@pytest.mark.parametrize("name", ["olmoe", "mixtral", "gpt_oss", "deepseek_v3"])
def test_never_more_than_a_layer_is_made_whole_at_once(name, tmp_path):
    """Under ZeRO-3 what is whole is what every worker holds beside its own share."""
    model, gathered = build(name), []

    @contextmanager
    def gather(parameters):
        gathered.append({id(parameter) for parameter in parameters})
        yield

    save_model(model, tmp_path, gather=gather)
    layers = decoder_layers(decoder_of(model))
    owners = [{id(parameter) for parameter in layer.parameters()} for layer in layers]
    for together in gathered:
        assert sum(bool(together & own) for own in owners) <= 1
    assert set().union(*gathered) == {id(parameter) for parameter in model.parameters()}
    gathered.clear()
    save_model(model, tmp_path / "nothing", gather=gather, writes=False)
    assert set().union(*gathered) == {id(parameter) for parameter in model.parameters()}, "every worker takes part"
    assert not (tmp_path / "nothing").exists()
