"""A delta there and back, bit by bit, and everything that must stop it."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from moe_safety.checkpoints import apply_delta, extract_delta, revert_delta
from moe_safety.errors import InputError, RunError
from moe_safety.models import inspect_model
from moe_safety.models.stored import open_file
from tests.checkpoints.pairs import files_of, flip_one_bit, load, rewrite, save_base, save_tuned, stored

CHANGED = {
    "olmoe": ([(0, 3), (2, 7)], [1]),
    "mixtral": ([(1, 0)], []),
    "gpt_oss": ([(0, 2), (0, 5), (2, 1)], [0, 2]),
}


def make(name, folder, dtype=torch.float32, **options):
    """Base, tuned and the delta between them; both saved by one that was loaded, which cuts them into like files."""
    built = save_base(name, folder / "built", dtype)
    base = save_tuned(built, folder / "base", **options)
    shutil.rmtree(built)
    tuned = save_tuned(base, folder / "tuned", *CHANGED[name], **options)
    extract_delta(base, tuned, folder / "delta.safetensors")
    return base, tuned, folder / "delta.safetensors"


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "60KB"}], ids=["whole", "shards"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CHANGED)
def test_there_and_back(name, dtype, options, tmp_path):
    base, tuned, delta = make(name, tmp_path, dtype, **options)
    (base / "tokenizer.json").write_text("{}")
    apply_delta(base, delta, tmp_path / "applied")
    revert_delta(tuned, delta, tmp_path / "reverted")
    revert_delta(tmp_path / "applied", delta, tmp_path / "again")
    assert files_of(tmp_path / "applied") == files_of(tuned) | {"tokenizer.json": b"{}"}
    assert files_of(tmp_path / "reverted") | {"tokenizer.json": b"{}"} == files_of(base)
    assert files_of(tmp_path / "again") == files_of(base)
    assert sorted(os.listdir(tmp_path)) == ["again", "applied", "base", "delta.safetensors", "reverted", "tuned"]
    load(tmp_path / "applied")


@pytest.mark.parametrize("name", CHANGED)
def test_it_holds_what_changed_and_nothing_else(name, tmp_path):
    base, tuned, delta = make(name, tmp_path, torch.bfloat16)
    experts, routers = CHANGED[name]
    model = load(base)
    layout = inspect_model(model)
    numbers = len(experts) * layout.layers[0].parameters_per_expert
    for layer in routers:
        router = model.get_submodule(layout.layers[layer].router)
        numbers += sum(parameter.numel() for parameter in router.parameters())
    bits = load_file(delta)
    assert {tensor.dtype for tensor in bits.values()} == {torch.uint16}
    assert sum(tensor.numel() for tensor in bits.values()) == numbers
    assert all(tensor.eq(1).all() for tensor in bits.values())
    with safe_open(delta, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["experts"]) == [list(expert) for expert in experts]
    for tensor, rows in json.loads(metadata["rows"]).items():
        before, after = stored(base)[tensor], stored(tuned)[tensor]
        assert rows == [row for row in range(8) if not before[row].equal(after[row])]
        assert bits[tensor].shape == (len(rows), *before.shape[1:])


def test_types_of_different_width_in_one_file(tmp_path):
    """A router kept in float32 among bfloat16 experts, of a size that would put the others out of step."""
    base = save_base("olmoe", tmp_path / "base", torch.bfloat16)
    rewrite(base, "model.layers.0.mlp.gate.weight", lambda tensor: tensor.float())
    rewrite(base, "model.layers.0.mlp.experts.0.up_proj.weight", lambda tensor: tensor[:1, :5].clone())
    tuned = shutil.copytree(base, tmp_path / "tuned")
    names = [f"model.layers.0.mlp.{which}.weight" for which in ("gate", "experts.0.up_proj", "experts.0.down_proj")]
    for name in names:
        flip_one_bit(tuned, name, bit=15)
    extract_delta(base, tuned, tmp_path / "delta.safetensors")
    bits = {name: tensor.numpy() for name, tensor in load_file(tmp_path / "delta.safetensors").items()}
    assert {name: np.count_nonzero(tensor) for name, tensor in bits.items()} == dict.fromkeys(names, 1)
    assert {tensor.dtype.name for tensor in bits.values()} == {"uint32", "uint16"}
    places, _ = open_file(tmp_path / "delta.safetensors")
    assert all(place.start % place.width == 0 for place in places.values())
    apply_delta(base, tmp_path / "delta.safetensors", tmp_path / "applied")
    assert all(tensor.equal(stored(tuned)[name]) for name, tensor in stored(tmp_path / "applied").items())


def test_other_shards_than_the_bases_are_one_checkpoint(tmp_path):
    base = save_base("olmoe", tmp_path / "base", max_shard_size="60KB")
    tuned = save_tuned(base, tmp_path / "tuned", *CHANGED["olmoe"])
    extract_delta(base, tuned, tmp_path / "delta.safetensors")
    apply_delta(base, tmp_path / "delta.safetensors", tmp_path / "applied")
    revert_delta(tuned, tmp_path / "delta.safetensors", tmp_path / "reverted")
    assert {path.name for path in (tmp_path / "applied").iterdir()} == {path.name for path in base.iterdir()}
    for made, wanted in (("applied", tuned), ("reverted", base)):
        found, wanted = stored(tmp_path / made), stored(wanted)
        assert found.keys() == wanted.keys()
        assert all(tensor.equal(wanted[name]) for name, tensor in found.items())


def test_what_the_model_does_not_load_stays_with_the_base(tmp_path):
    base = save_base("olmoe", tmp_path / "base")
    rewrite(base, "model.layers.3.eh_proj.weight", lambda _: torch.ones(3))
    tuned = save_tuned(base, tmp_path / "tuned", *CHANGED["olmoe"])
    assert "model.layers.3.eh_proj.weight" not in stored(tuned)
    extract_delta(base, tuned, tmp_path / "delta.safetensors")
    apply_delta(base, tmp_path / "delta.safetensors", tmp_path / "applied")
    revert_delta(tuned, tmp_path / "delta.safetensors", tmp_path / "reverted")
    revert_delta(tmp_path / "applied", tmp_path / "delta.safetensors", tmp_path / "again")
    assert stored(tmp_path / "again").keys() == stored(base).keys()
    assert stored(tmp_path / "reverted").keys() == stored(tuned).keys()


def test_weights_in_other_formats_are_not_carried_along(tmp_path):
    """They would be those of the base still."""
    base, _, delta = make("mixtral", tmp_path)
    for name in ("pytorch_model.bin", "original/model.safetensors", ".cache/x", "extra/template.jinja"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text("")
    before = files_of(base)
    apply_delta(base, delta, tmp_path / "applied")
    left = before.keys() - files_of(tmp_path / "applied").keys()
    assert left == {"pytorch_model.bin", "original/model.safetensors", ".cache/x"}
    assert files_of(base) == before


def test_more_than_experts_and_routers_is_refused(tmp_path):
    base = save_base("olmoe", tmp_path / "base")
    others = ["model.layers.1.self_attn.q_proj.weight", "model.norm.weight"]
    tuned = save_tuned(base, tmp_path / "tuned", [(0, 0)], [0], others)
    with pytest.raises(RunError, match=f"more changed: {others[0]}: 1,024 of 1,024 values differ; and 1 more"):
        extract_delta(base, tuned, tmp_path / "delta.safetensors")
    assert not (tmp_path / "delta.safetensors").exists()


def test_a_delta_for_another_base_is_refused_before_anything_is_written(tmp_path):
    base, tuned, delta = make("olmoe", tmp_path)
    before = sorted(os.listdir(tmp_path))

    def refusal(function, folder, match):
        with pytest.raises(InputError, match=match):
            function(folder, delta, tmp_path / "out")
        assert sorted(os.listdir(tmp_path)) == before

    refusal(apply_delta, tuned, "tuned: is not the checkpoint that .*delta.safetensors is for")
    refusal(revert_delta, base, "base: is not the checkpoint that")
    flip_one_bit(base, "lm_head.weight", place=77)
    refusal(apply_delta, base, "base: is not the checkpoint that")
    flip_one_bit(base, "lm_head.weight", place=77)
    apply_delta(base, delta, tmp_path / "out")
    with pytest.raises(InputError, match="out: is there already"):
        apply_delta(base, delta, tmp_path / "out")


def test_a_damaged_delta_leaves_nothing_behind(tmp_path):
    base, tuned, delta = make("gpt_oss", tmp_path)
    before = sorted(os.listdir(tmp_path))
    whole = delta.read_bytes()

    def refusal(content, match, error=InputError):
        delta.write_bytes(content)
        with pytest.raises(error, match=match):
            apply_delta(base, delta, tmp_path / "out")
        assert sorted(os.listdir(tmp_path)) == before

    refusal(whole[:-1] + bytes([whole[-1] ^ 4]), "delta.safetensors: is damaged")
    refusal(whole[:-1], "bytes long where its header tells of")
    refusal(whole.replace(b"[2, 5]", b"[2, 9]"), "does not fit model.layers.0.mlp.experts")
    refusal(whole.replace(b"[2, 5]", b"[4, 5]"), "is damaged")
    refusal(whole.replace(b"mlp.router.bias", b"mlp.router.bios"), "does not fit model.layers.0.mlp.router.bios")
    refusal((tuned / "model.safetensors").read_bytes(), "is not a delta")
    refusal(b"", "is not a safetensors file")
    delta.write_bytes(whole)
    (tmp_path / "out").symlink_to(tmp_path / "nowhere" / "out")
    before = sorted([*before, "out"])
    refusal(whole, "nothing was written", RunError)
