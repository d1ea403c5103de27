import hashlib
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from moe_safety.models.decoder import decoder_layers, decoder_of
from moe_safety.models.experts import use_our_experts
from moe_safety.models.io.save import save_model
from moe_safety.rundir import file_digest
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "deepseek_v3"])
def test_files_are_hashed_while_they_are_written(name, dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("MOE_SAFETY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("moe_safety.rundir.digests._LARGE", 0)
    monkeypatch.setattr("moe_safety.rundir.digests._hashed", lambda file: pytest.fail(f"{file} is read again"))
    model = build(name).to(dtype)
    layers = 3 * sum(tensor.nbytes for tensor in decoder_layers(decoder_of(model))[-1].parameters()) // 2
    for shard in (layers, 10**9):
        folder = tmp_path / str(shard)
        folder.mkdir()
        save_model(model, folder, shard=shard)
        files = list(folder.glob("*.safetensors"))
        assert (len(files) > 1) == (shard == layers)
        for file in files:
            assert file_digest(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_wide_tensor_never_stands_askew(tmp_path):
    """An odd number of two-byte values before it would put it between its own multiples."""
    model = build("olmoe").to(torch.bfloat16)
    model.model.layers[0].input_layernorm.weight = torch.nn.Parameter(torch.ones(33, dtype=torch.bfloat16))
    model.model.norm.weight.data = model.model.norm.weight.data.float()
    save_model(model, tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    assert torch.equal(kept["model.norm.weight"], model.model.norm.weight)
    assert kept["model.layers.0.input_layernorm.weight"].shape == (33,)
