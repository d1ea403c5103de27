"""Whatever differs by a bit is found and named, however the checkpoints are cut into files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from moe_safety.checkpoints import verify
from moe_safety.checkpoints.compare import _change
from moe_safety.errors import InputError
from moe_safety.models.stored import Held
from tests.checkpoints.pairs import flip_one_bit, rewrite, save_base, save_tuned, stored

SELECTED = [(0, 3), (2, 7)]
FROZEN = "model.layers.1.mlp.experts.4.up_proj.weight"
ROUTER = "model.layers.1.mlp.gate.weight"
HEAD = "lm_head.weight"


@pytest.fixture(scope="module")
def olmoe(tmp_path_factory):
    """A base and its tuned checkpoint, to be copied."""
    folder = tmp_path_factory.mktemp("olmoe")
    base = save_base("olmoe", folder / "base")
    return base, save_tuned(base, folder / "tuned", SELECTED)


@pytest.fixture
def tuned(olmoe, tmp_path):
    return shutil.copytree(olmoe[1], tmp_path / "copy")


def violations(base, tuned, selected=SELECTED, **options):
    return [str(violation) for violation in verify(base, tuned, selected, **options).violations]


def test_what_may_change_is_counted(olmoe):
    base, tuned = olmoe
    report = verify(base, tuned, SELECTED)
    assert report.violations == []
    assert report.experts == SELECTED
    assert report.parameters == sum(tensor.numel() for tensor in stored(base).values())
    assert report.changed_ratio == 2 * 3 * 32 * 48 / report.parameters
    assert verify(base, base, []).to_dict() | {"tuned": None} == {
        "base": report.base,
        "tuned": None,
        "parameters": report.parameters,
        "changed": 0,
        "changed_ratio": 0.0,
        "experts": [],
        "routers": [],
        "violations": [],
        "left_out": [],
    }


@pytest.mark.parametrize("name", [FROZEN, ROUTER, HEAD])
def test_one_bit_is_found(olmoe, tuned, name):
    size = stored(tuned)[name].numel()
    flip_one_bit(tuned, name, place=size - 1)
    whose = {FROZEN: "L01_E04 is not selected, ", ROUTER: "router of layer 1, ", HEAD: ""}[name]
    assert violations(olmoe[0], tuned) == [f"{name}: {whose}1 of {size:,} values differ"]
    assert bool(violations(olmoe[0], tuned, routers_allowed=True)) == (name != ROUTER)


def test_one_bit_in_a_row_of_a_fused_tensor_is_found(tmp_path):
    base = save_base("gpt_oss", tmp_path / "base", torch.bfloat16)
    tuned = save_tuned(base, tmp_path / "tuned", [(1, 6)])
    name = "model.layers.1.mlp.experts.gate_up_proj"
    row = stored(base)[name][0].numel()
    flip_one_bit(tuned, name, place=5 * row - 1, bit=3)
    assert violations(base, tuned, [(1, 6)]) == [f"{name}: L01_E04 is not selected, 1 of {row:,} values differ"]


@pytest.mark.parametrize(("before", "after"), [(0.0, -0.0), (float("nan"), None)])
def test_values_are_compared_as_bits(olmoe, tuned, tmp_path, before, after):
    """Zeros of either sign are equal, and nothing equals not-a-number; on disk it is the other way round."""
    base = shutil.copytree(olmoe[0], tmp_path / "base")
    for folder in (base, tuned):
        rewrite(folder, HEAD, lambda tensor: torch.full_like(tensor, before))
    assert violations(base, tuned) == []
    if after is None:
        flip_one_bit(tuned, HEAD, bit=7)
        assert stored(tuned)[HEAD].isnan().all()
    else:
        rewrite(tuned, HEAD, lambda tensor: torch.full_like(tensor, after))
    assert len(violations(base, tuned)) == 1


def test_shards_do_not_matter(olmoe, tmp_path):
    base, whole = olmoe
    shards = [save_tuned(base, tmp_path / size, SELECTED, max_shard_size=size) for size in ("50KB", "200KB")]
    assert len(list(shards[0].glob("*.safetensors"))) > len(list(shards[1].glob("*.safetensors"))) > 1
    for folder in shards:
        assert verify(base, folder, SELECTED).to_dict() == verify(base, whole, SELECTED).to_dict()
    flip_one_bit(shards[0], FROZEN)
    assert violations(shards[1], shards[0]) == [f"{FROZEN}: L01_E04 is not selected, 1 of 1,536 values differ"]


def test_tensors_that_are_not_of_one_kind(olmoe, tuned):
    rewrite(tuned, HEAD, lambda tensor: tensor.double())
    rewrite(tuned, ROUTER, lambda tensor: tensor[:-1].clone())
    rewrite(tuned, FROZEN, lambda tensor: None)
    rewrite(tuned, "model.norm.bias", lambda _: torch.ones(3))
    assert violations(olmoe[0], tuned) == [
        f"{HEAD}: is F64 [128, 32], in the base F32 [128, 32]",
        f"{FROZEN}: is missing",
        f"{ROUTER}: is F32 [7, 32], in the base F32 [8, 32]",
        "model.norm.bias: is not in the base",
    ]


def test_what_the_model_does_not_need_may_be_missing(olmoe, tuned, tmp_path):
    """Checkpoints on the hub carry more than their model loads; saving it leaves that out."""
    base = shutil.copytree(olmoe[0], tmp_path / "base")
    rewrite(base, "model.layers.3.eh_proj.weight", lambda _: torch.ones(3))
    report = verify(base, tuned, SELECTED)
    assert (report.violations, report.left_out) == ([], ["model.layers.3.eh_proj.weight"])
    rewrite(tuned, "model.layers.3.eh_proj.weight", lambda _: torch.zeros(3))
    assert violations(base, tuned) == ["model.layers.3.eh_proj.weight: 3 of 3 values differ"]


def test_a_shared_tensor_may_be_stored_once(tmp_path):
    base = save_base("gemma4_text", tmp_path / "base")
    tuned = shutil.copytree(base, tmp_path / "tuned")
    assert HEAD not in stored(base)
    rewrite(base, HEAD, lambda _: stored(base)["model.embed_tokens.weight"].clone())
    assert verify(base, tuned, []).left_out == [HEAD]
    assert violations(base, tuned, []) == []
    flip_one_bit(base, HEAD)
    assert violations(base, tuned, []) == [f"{HEAD}: is missing"]


def test_bad_input_is_one_line(olmoe, tuned, tmp_path):
    base = olmoe[0]

    def complaint(one=base, other=tuned, selected=SELECTED):
        with pytest.raises(InputError) as error:
            verify(one, other, selected)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "the model has no expert 8 in layer 0" in complaint(selected=[(0, 8)])
    assert "the model has no expert 0 in layer 3" in complaint(selected=[(3, 0)])
    assert "none: is not a folder" in complaint(other=tmp_path / "none")
    stranger = save_base("qwen3_moe", tmp_path / "stranger")
    assert "is not a checkpoint of the model in" in complaint(other=stranger)
    config = json.loads((tuned / "config.json").read_text())
    (tuned / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    assert "is quantised by gptq" in complaint()
    weights = tuned / "model.safetensors"
    (tuned / "config.json").write_text(json.dumps(config))
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "bytes long where its header tells of" in complaint()
    weights.write_bytes(b"\x08")
    assert "cannot be read as a checkpoint" in complaint()
    weights.rename(tuned / "pytorch_model.bin")
    assert "holds no model.safetensors and no index of shards" in complaint()


def test_an_index_that_lies_is_refused(olmoe, tmp_path):
    base = olmoe[0]
    tuned = save_tuned(base, tmp_path / "tuned", SELECTED, max_shard_size="200KB")
    path = tuned / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({"weight_map": index["weight_map"] | {"more": index["weight_map"][HEAD]}}))
    with pytest.raises(InputError, match="its index and its files disagree about more"):
        verify(base, tuned, SELECTED)
    path.write_text(json.dumps({"weight_map": index["weight_map"] | {HEAD: "../base/model.safetensors"}}))
    shutil.copytree(base, tmp_path / "base")
    with pytest.raises(InputError, match="its index names a file of another folder"):
        verify(base, tuned, SELECTED)
    shard = tuned / index["weight_map"][HEAD]
    save_file({**load_file(shard), ROUTER: torch.ones(2)}, shard)
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match=f"holds {ROUTER} in two files"):
        verify(base, tuned, SELECTED)


MEASURE = """
import json, resource, sys
from pathlib import Path
from transformers import OlmoeConfig
from moe_safety.checkpoints import verify
from moe_safety.models.io.skeleton import build_skeleton

folder = Path(sys.argv[1])
sizes = dict(hidden_size=1024, intermediate_size=1024, num_hidden_layers=1, num_experts=48, vocab_size=64)
for side in ("base", "tuned"):
    OlmoeConfig(**sizes, architectures=["OlmoeForCausalLM"]).save_pretrained(folder / side)
    header, end = {}, 0
    for name, tensor in build_skeleton(str(folder / side)).state_dict().items():
        stop = end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [end, stop]}
        end = stop
    text = json.dumps(header).encode()
    with open(folder / side / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
with open(folder / "tuned" / "model.safetensors", "r+b") as file:
    name = "model.layers.0.mlp.experts.gate_up_proj"
    file.seek(8 + len(text) + header[name]["data_offsets"][0] + 9 * 2 * 1024 * 1024 * 4)
    file.write(b"\\x01")

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = verify(folder / "base", folder / "tuned", [])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([end, before, after, [str(one) for one in report.violations]]))
"""


def test_memory_does_not_grow_with_the_checkpoint(tmp_path):
    """600 MB in each folder, most of it in one tensor: comparing them takes less than 100 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True, cwd=".", timeout=300
    )
    size, before, after, found = json.loads(done.stdout.splitlines()[-1])
    assert size > 600e6
    name = "model.layers.0.mlp.experts.gate_up_proj"
    assert found == [f"{name}: L00_E09 is not selected, 1 of 2,097,152 values differ"]
    assert (after - before) * 1024 < 100e6


def test_differences_are_counted_by_block_however_chunks_are_cut(monkeypatch):
    monkeypatch.setattr("moe_safety.models.stored.patched.CHUNK", 16)
    chance = np.random.default_rng(0)
    one, other = chance.integers(0, 2, (2, 5, 12), dtype=np.uint16)
    other[2] = one[2]
    held = [Held(Path(), 0, 120, "U16", (5, 12), memoryview(each.tobytes())) for each in (one, other)]
    by_row = {row: int(count) for row, count in enumerate((one != other).sum(axis=1)) if count}
    assert _change(*held, 5) == by_row
    assert _change(*held, 1) == {0: sum(by_row.values())}
