import hashlib
import multiprocessing
import os
import signal
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from moe_safety.errors import InputError, RunError
from moe_safety.models.decoder import decoder_layers, decoder_of
from moe_safety.models.experts import use_our_experts
from moe_safety.models.io.save import _File, save_model, save_rest, save_weights
from moe_safety.models.stored import open_checkpoint
from moe_safety.rundir import RunDir, file_digest
from tests.families import FAMILIES, build


def tensors(folder):
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_files_hold_what_transformers_writes(name, tmp_path):
    model = use_our_experts(build(name))
    model.save_pretrained(tmp_path / "theirs")
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

    save_weights(model, tmp_path, gather=gather)
    layers = decoder_layers(decoder_of(model))
    owners = [{id(parameter) for parameter in layer.parameters()} for layer in layers]
    for together in gathered:
        assert sum(bool(together & own) for own in owners) <= 1
    assert set().union(*gathered) == {id(parameter) for parameter in model.parameters()}
    gathered.clear()
    save_weights(model, tmp_path / "nothing", gather=gather, rank=1, of=2)
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
        told = save_model(model, folder, shard=shard)
        files = list(folder.glob("*.safetensors"))
        assert told == {file.name: file_digest(file) for file in files}
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


SHARD = 20_000


def written_by(workers, folder, model):
    """The digests that each told of."""
    told = [save_weights(model, folder, rank=rank, of=workers, shard=SHARD) for rank in range(workers)]
    save_rest(model, folder, shard=SHARD)
    return told


def test_any_number_of_writers_leaves_the_same_bytes(tmp_path):
    model = build("olmoe")
    for workers in (1, 2, 3):
        told = written_by(workers, tmp_path / str(workers), model)
        files = {file.name: file_digest(file) for file in (tmp_path / str(workers)).glob("*.safetensors")}
        shares = [{name: digest for name, digest in each.items() if digest} for each in told]
        assert all(shares)
        assert sum(map(len, shares)) == len(files), "each file has one writer"
        assert dict(sorted(item for share in shares for item in share.items())) == dict(sorted(files.items()))
        assert all(each.keys() == files.keys() for each in told)
    contents = [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in sorted(tmp_path.iterdir())]
    assert contents[0] == contents[1] == contents[2]


def die_while_writing(folder):
    real, wrote = _File._write, []

    def write(self, name, tensor):
        real(self, name, tensor)
        self.stream.flush()
        wrote.append(name)
        if len(wrote) == 20:
            os.kill(os.getpid(), signal.SIGKILL)

    _File._write = write
    save_weights(build("olmoe"), folder, rank=1, of=2, shard=SHARD)


def test_a_writer_that_is_killed_leaves_nothing_that_looks_whole(tmp_path):
    model, folder = build("olmoe"), tmp_path / "model"
    worker = multiprocessing.get_context("fork").Process(target=die_while_writing, args=(folder,))
    worker.start()
    save_weights(model, folder, rank=0, of=2, shard=SHARD)
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert any(file.name.endswith(".tmp") for file in folder.iterdir()), "it had begun"
    whole = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
    with pytest.raises(InputError, match="holds no model"):
        open_checkpoint(folder)
    with pytest.raises(OSError, match="no file named model"):
        type(model).from_pretrained(folder)
    RunDir(str(folder)).remove_abandoned()
    assert {file.name for file in folder.iterdir()} == whole.keys()
    written_by(1, tmp_path / "alone", model)
    assert all((tmp_path / "alone" / name).read_bytes() == data for name, data in whole.items())


def test_a_full_disk_is_told_by_the_file_that_it_met(tmp_path, monkeypatch):
    real = _File._write

    def write(self, name, tensor):
        self.stream = full if "-00002-of" in self.name else self.stream
        real(self, name, tensor)

    monkeypatch.setattr(_File, "_write", write)
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(RunError, match=r"model-00002-of-\d+.safetensors: No space left on device"),
    ):
        save_model(build("olmoe"), tmp_path, shard=SHARD)
    assert list(tmp_path.iterdir()) == []
