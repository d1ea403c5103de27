"""`verify` and `delta` from the command line."""

import json
import sys

import pytest

from moe_safety.cli import main
from moe_safety.config import ModelConfig
from moe_safety.identify import Selection
from moe_safety.models.io import model_fingerprint
from tests.checkpoints.pairs import files_of, flip_one_bit, save_base, save_tuned

ROUTER = "model.layers.0.mlp.gate.weight"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A base, a tuned checkpoint with two experts and a router changed, and the selections of two rounds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOE_SAFETY_CACHE", str(tmp_path / "cache"))
    save_tuned(save_base("olmoe", tmp_path / "base"), tmp_path / "tuned", [(0, 3), (2, 7)], [0])
    first = model_fingerprint(ModelConfig(name="base"))
    select(tmp_path / "first.json", first, {0: [(0, 3)], 1: [(0, 3), (2, 7)]})
    select(tmp_path / "round_1.json", first, {0: [(0, 3)]})
    select(tmp_path / "round_2.json", "what round 1 made", {0: [(2, 7)]})
    return tmp_path


def select(path, model, per_batch):
    selection = Selection("routing", "risk_diff", 0.05, 50, None, model, [], per_batch)
    path.write_text(json.dumps(selection.to_json()))


def run(capsys, *argv):
    code = main([str(argument) for argument in argv])
    said = capsys.readouterr()
    return code, said.err if code == 2 else said.out


def test_verify_says_what_moved_and_lists_what_may_not(folder, capsys):
    code, said = run(capsys, "verify", "base", "tuned", "--selection", "first.json", "--routers")
    assert code == 0
    assert said.splitlines() == [
        "changed: 9,472 of 132,256 values (7.1619%)",
        "experts: 2 (L00_E03, L02_E07)",
        "routers: 1 (layers 0)",
        "violations: 0",
    ]
    code, said = run(capsys, "verify", "base", "tuned", "--selection", "first.json")
    assert code == 1
    assert said.splitlines()[3:] == ["violations: 1", f"{ROUTER}: router of layer 0, 256 of 256 values differ"]
    flip_one_bit(folder / "tuned", "lm_head.weight")
    flip_one_bit(folder / "tuned", "model.layers.1.mlp.experts.0.up_proj.weight")
    code, said = run(capsys, "verify", "base", "tuned", "--selection", "round_1.json", "--routers")
    assert code == 1
    assert [line.split(":")[0] for line in said.splitlines()[4:]] == [
        "lm_head.weight",
        "model.layers.1.mlp.experts.0.up_proj.weight",
        *(f"model.layers.2.mlp.experts.7.{name}_proj.weight" for name in ("down", "gate", "up")),
    ]


def test_verify_gives_json(folder, capsys):
    code, said = run(capsys, "verify", "base", "tuned", "--selection", "first.json", "--json")
    found = json.loads(said)
    assert code == 1
    assert found["experts"] == [[0, 3], [2, 7]]
    assert found["violations"] == [{"tensor": ROUTER, "problem": "router of layer 0, 256 of 256 values differ"}]
    assert found["changed_ratio"] == found["changed"] / found["parameters"]


def test_rounds_may_train_what_any_of_them_selected(folder, capsys):
    both = ["--selection", "round_1.json", "round_2.json", "--routers"]
    assert run(capsys, "verify", "base", "tuned", *both)[0] == 0
    assert run(capsys, "verify", "base", "tuned", "--selection", "round_1.json", "--routers")[0] == 1


def test_an_arm_says_what_may_differ(folder, capsys):
    given = ["--selection", "first.json", "--arm"]
    assert run(capsys, "verify", "base", "tuned", *given, "selective-routing+router")[0] == 0
    code, said = run(capsys, "verify", "base", "tuned", *given, "selective-routing")
    assert code == 1
    assert "violations: 1" in said
    assert run(capsys, "verify", "base", "tuned", "--arm", "router")[0] == 1
    save_base("olmoe", folder / "attentive")
    flip_one_bit(folder / "attentive", "model.layers.1.self_attn.q_proj.weight")
    select(folder / "second.json", model_fingerprint(ModelConfig(name="base")), {0: [(1, 3), (1, 4)]})
    # Of the layer that has most of the selection; of another one not a bit.
    asked = ["verify", "base", "attentive", "--arm", "attention"]
    assert run(capsys, *asked, "--selection", "second.json")[0] == 0
    assert run(capsys, *asked, "--selection", "first.json")[0] == 1
    assert "takes --selection FILE" in run(capsys, *asked)[1]
    assert run(capsys, "verify", "base", "attentive", "--arm", "lora")[0] == 0
    flip_one_bit(save_base("olmoe", folder / "normed"), "model.layers.1.self_attn.q_norm.weight")
    assert run(capsys, "verify", "base", "normed", "--arm", "lora")[0] == 1
    code, said = run(capsys, "verify", "base", "attentive", "--arm", "router")
    assert code == 1
    assert "model.layers.1.self_attn.q_proj.weight: 1 of" in said
    assert "there is nothing to verify" in run(capsys, "verify", "base", "tuned", "--arm", "baseline")[1]
    assert "takes --selection FILE" in run(capsys, "verify", "base", "tuned")[1]


def test_verify_says_of_a_delta_what_it_says_of_the_checkpoint(folder, capsys):
    assert run(capsys, "delta", "extract", "base", "tuned", "delta.safetensors")[0] == 0
    for flags in (["first.json", "--routers"], ["first.json"], ["round_1.json", "--routers", "--json"]):
        by_delta, by_checkpoint = (
            run(capsys, "verify", "base", tuned, "--selection", *flags) for tuned in ("delta.safetensors", "tuned")
        )
        assert by_delta == by_checkpoint
    flip_one_bit(folder / "base", "model.norm.weight")
    code, said = run(capsys, "verify", "base", "delta.safetensors", "--arm", "router")
    assert (code, said) == (2, "error: base: is not the checkpoint that delta.safetensors is for\n")


def test_a_selection_that_does_not_fit_is_one_line(folder, capsys):
    def complaint(name, base="base"):
        code, said = run(capsys, "verify", base, "tuned", "--selection", name)
        assert code == 2
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        return said

    assert "round_2.json: was made for another model than base" in complaint("round_2.json")
    select(folder / "wrong.json", model_fingerprint(ModelConfig(name="base")), {0: [(0, 8)]})
    assert "the model has no expert 8 in layer 0" in complaint("wrong.json")
    assert "cannot be read as a selection" in complaint("none.json")
    (folder / "text.json").write_text("[]")
    assert "is not a selection" in complaint("text.json")
    assert "runs/x/base: is not a folder, and cannot be a hub id" in complaint("first.json", base="runs/x/base")


@pytest.mark.parametrize(
    "asked",
    [
        ["verify", "base", "tuend"],
        ["delta", "extract", "base", "tuend", "out.safetensors"],
        ["delta", "apply", "base", "tuend", "out"],
        ["delta", "revert", "tuend", "delta.safetensors", "out"],
    ],
)
def test_what_is_not_there_is_told_before_checkpoints_are_read(folder, capsys, monkeypatch, asked):
    monkeypatch.setitem(sys.modules, "moe_safety.checkpoints", None)
    assert run(capsys, *asked) == (2, "error: tuend: no such file or folder\n")


def test_delta_there_and_back(folder, capsys):
    code, said = run(capsys, "delta", "extract", "base", "tuned", "delta.safetensors")
    assert (code, said.splitlines()[1]) == (0, "experts: 2 (L00_E03, L02_E07)")
    assert run(capsys, "delta", "apply", "base", "delta.safetensors", "applied")[0] == 0
    assert run(capsys, "delta", "revert", "applied", "delta.safetensors", "reverted")[0] == 0
    assert files_of(folder / "reverted") == files_of(folder / "base")
    code, said = run(capsys, "delta", "apply", "tuned", "delta.safetensors", "more")
    assert (code, said) == (2, "error: tuned: is not the checkpoint that delta.safetensors is for\n")
    assert not (folder / "more").exists()
