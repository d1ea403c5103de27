"""The baselines of the field: each trains what it says by what its paper says, and nothing else."""

import os
import re
import shutil

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from moe_safety.arms import ARMS, names_of, own_arm, parameters_of, size_of
from moe_safety.arms.losses.preference import Preference, pair
from moe_safety.arms.losses.recovery import tokens, twice
from moe_safety.batches import Example
from moe_safety.config import ModelConfig
from moe_safety.errors import InputError
from moe_safety.models import inspect_model
from moe_safety.models.io import check_loadable, load_chat, load_model, model_folder, skeleton_of
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from moe_safety.train.data import BatchData
from moe_safety.train.printing import size_lines
from moe_safety.train.several import train_and_verify
from moe_safety.train.verified import verified, verify_arm
from tests.demo import demo
from tests.evaluate.schema import check_comparison
from tests.families import build
from tests.train.byhand import configured

EXPERTS = [(0, 1), (2, 3), (3, 8)]
UNSAFE = Example(0, 1, "unsafe", [1, 2], [7, 8], [1, 2, 3], [4, 5, 6])
SAFE = Example(0, 0, "safe", [1, 2], [7, 8], [1, 2], [7, 8])


def trained(folder, arm, *flags):
    """The verdict of `verify`, the model, and the run."""
    config = configured(folder, EXPERTS, "identify.method=causal", f"train.arm={arm}", "train.num_epochs=10", *flags)
    own = own_arm(config)
    manifest = train_and_verify(own, force=False)
    run = RunDir(config.run_dir)
    model = load_model(config.model.model_copy(update={"name": run.path(manifest["summary"]["final_model"])}))
    return verified(run, own), model, config


def total_loss(model, examples):
    """-log p of targets, a sum for each row."""
    rows = make_rows([one.prompt for one in examples], [one.target for one in examples])
    with torch.no_grad():
        losses, row = answer_losses(model, rows)
    return torch.zeros(len(examples)).index_add(0, row, losses)


@pytest.mark.parametrize(
    ("arm", "part"), [("attention", r"\.0\.self_attn"), ("router", r"mlp\.gate")], ids=["attention", "router"]
)
def test_one_part_trains_and_nothing_else(tmp_path, arm, part, capsys):
    found, tuned, config = trained(tmp_path / "run", arm, "train.router.lr=1e-2")
    assert found["verify"] == "pass"
    assert found["experts"] == []
    base = load_model(config.model).state_dict()
    changed = [name for name, value in tuned.state_dict().items() if not torch.equal(value, base[name])]
    assert changed
    assert all(re.search(part, name) for name in changed)
    assert 0 < found["changed_ratio"] < 0.2
    assert RunDir(config.run_dir).exists(f"train/{arm}/delta.safetensors") == (arm == "router")
    sizes = "37,056 parameters beside 41,472 in the selection's 3 experts\n"
    assert (sizes in capsys.readouterr().out) == (arm == "attention")
    # Another layer's attention is none of what either trained.
    final, name = f"train/{arm}/final_model", "model.layers.1.self_attn.q_proj.weight"
    file = RunDir(config.run_dir).path(f"{final}/model.safetensors")
    tensors = load_file(file)
    os.remove(file)  # It is another name of what the round left.
    save_file(tensors | {name: tensors[name] * 2}, file, {"format": "pt"})
    verify_arm(own_arm(config), {"final_model": final, "delta": None}, force=True)
    told = verified(RunDir(config.run_dir), own_arm(config))["violations"]
    assert [violation.partition(":")[0] for violation in told] == [name]


SIZED = "attention of the selection's size"


@pytest.mark.parametrize("family", ["olmoe", "deepseek_v3", "nemotron_h", "gpt_oss"])
def test_attention_is_as_large_as_the_selection(family):
    """Of all whole layers' attention from those on that have most of the selection, none comes nearer."""
    model = build(family)
    layout, layers = inspect_model(model), range(model.config.num_hidden_layers)
    whole = {name: model.get_parameter(name).numel() for name in names_of(["attention"], model, layout)}
    busiest = layout.layers[-1].index
    experts = layout.experts()
    for count in (1, 2, 5, len(experts) // 2, len(experts)):
        chosen = experts[::-1][:count]
        found = names_of([SIZED], model, layout, chosen)
        having = [sum(pair[0] == layer for pair in chosen) for layer in layers]
        order, sizes = sorted(layers, key=lambda layer: (-having[layer], layer)), []
        by_layer = [sum(n for name, n in whole.items() if f".layers.{layer}." in name) for layer in order]
        sizes = [sum(by_layer[: number + 1]) for number in layers]
        apart = [abs(size - size_of(layout, chosen)) for size in sizes if size]
        assert abs(parameters_of(model, found) - size_of(layout, chosen)) == min(apart)
        assert found
        if count == 1 and by_layer[0]:
            assert all(f".layers.{busiest}." in name for name in found)
    assert found == set(whole) or sum(whole.values()) > size_of(layout, experts)


def test_where_all_attention_is_less_than_the_selection_all_of_it_trains(tmp_path, capsys):
    model = skeleton_of(ModelConfig(name="demo"))
    layout = check_loadable(ModelConfig(name="demo"))
    everyone = layout.experts()
    assert names_of([SIZED], model, layout, everyone) == names_of(["attention"], model, layout)
    (line,) = size_lines(ARMS.get("attention"), model, layout, everyone)
    assert (
        line == "  148,224 parameters beside 884,736 in the selection's 64 experts; that is all attention that there is"
    )
    assert not [*size_lines(ARMS.get("baseline"), model, layout, everyone)]


def test_a_model_without_shared_experts_has_none_to_train(tmp_path):
    with pytest.raises(InputError, match="olmoe has no shared experts"):
        trained(tmp_path / "run", "shared-experts")
    model = build("qwen2_moe")
    names = names_of(["shared experts"], model, inspect_model(model))
    assert names
    assert all("shared_expert" in name for name in names)


@pytest.mark.parametrize("family", ["qwen2_moe", "deepseek_v3"])
def test_shared_experts_train_and_nothing_else(tmp_path, family):
    model, base = build(family), tmp_path / "base"
    shutil.copytree(model_folder(ModelConfig(name="demo")), base, ignore=shutil.ignore_patterns("config*", "*.safe*"))
    model.resize_token_embeddings(len(load_chat(ModelConfig(name="demo")).tokenizer))
    model.save_pretrained(base)
    found, tuned, config = trained(tmp_path / "run", "shared-experts", "train.num_epochs=2", f"model.name={base}")
    assert (found["verify"], found["violations"], found["experts"], found["routers"]) == ("pass", [], [], [])
    before, own = model.state_dict(), names_of(["shared experts"], model, inspect_model(model))
    bits = {name: value.view(torch.int32) for name, value in tuned.state_dict().items() if value.dtype == torch.float32}
    changed = {name for name, value in bits.items() if not torch.equal(value, before[name].view(torch.int32))}
    assert changed == own
    log = RunDir(config.run_dir).read_json("train/shared-experts/training_metadata.json")
    assert log["trainable_params"] == sum(before[name].numel() for name in own)
    assert [row["batch_idx"] for row in log["training_logs"]][:2] in ([[0], [1]], [[1], [0]])
    # Neither a gate of theirs nor anything else may differ.
    final = RunDir(config.run_dir).path("train/shared-experts/final_model/model.safetensors")
    tensors = load_file(final)
    spoilt = next(name for name in tensors if ("shared_expert_gate" if "qwen2" in family else "kv_a_proj") in name)
    os.remove(final)
    save_file(tensors | {spoilt: tensors[spoilt] * 2}, final, {"format": "pt"})
    verify_arm(own_arm(config), {"final_model": "train/shared-experts/final_model", "delta": None}, force=True)
    told = verified(RunDir(config.run_dir), own_arm(config))["violations"]
    assert [violation.partition(":")[0] for violation in told] == [spoilt]


def test_recovery_reads_the_refusal_again_behind_the_answer_s_opening():
    whole, recovered = twice(UNSAFE)
    assert whole == UNSAFE
    assert recovered.target == UNSAFE.target
    opening = recovered.prompt[len(UNSAFE.before_answer) :]
    assert recovered.prompt[: len(UNSAFE.before_answer)] == UNSAFE.before_answer
    assert opening
    assert opening == UNSAFE.answer[: len(opening)]
    assert (list(twice(SAFE)), tokens(UNSAFE), tokens(SAFE)) == ([SAFE], 4, 2)


@pytest.mark.parametrize(("arm", "read"), [("prefix", twice), ("dpo", pair)])
def test_the_refusal_gains_on_what_was_said(tmp_path, arm, read):
    found, tuned, config = trained(tmp_path / "run", arm)
    assert found["verify"] == "pass"
    assert sorted(map(tuple, found["experts"])) == EXPERTS
    data = BatchData(RunDir(config.run_dir))
    unsafe = [read(row) for row in map(data.__getitem__, range(len(data))) if row.label == "unsafe"]
    base = load_model(config.model)
    for asked in unsafe:
        before, after = total_loss(base, asked), total_loss(tuned, asked)
        assert after[0] < before[0]
        # Behind the opening the refusal is likelier; the answer itself is not.
        assert after[1] < before[1] if arm == "prefix" else after[1] - after[0] > before[1] - before[0]


def test_the_end_of_the_answer_s_turn_is_no_part_of_its_opening():
    for place in range(20):
        row = Example(0, place, "unsafe", [1, 2], [7, 8], [1, 2, 3], [4, 5, 6])
        assert twice(row)[1].prompt[-1] != 6
    assert list(twice(Example(0, 0, "unsafe", [1], [7], [1], [6]))) == [Example(0, 0, "unsafe", [1], [7], [1], [6])]


def test_no_refusal_is_disfavoured(tmp_path):
    with pytest.raises(InputError, match=r"respond\.filter: false keeps attacks that were refused"):
        trained(tmp_path, "dpo", "respond.filter=false")


def test_no_setting_prefers_the_answer():
    for beta in (0, -0.1):
        with pytest.raises(ValidationError):
            Preference(beta=beta)


@pytest.mark.usefixtures("ray_here")
def test_they_stand_in_a_comparison_and_in_the_report(composed, tmp_path):
    shutil.copytree(composed, tmp_path / "run")
    names = ["attention", "router", "prefix", "dpo"]
    flags = ["train.num_epochs=1", "evaluate.routing_prompts=0", "evaluate.reidentify=false", "evaluate.reattack=[]"]
    asked = [f"compare.arms=[base, {', '.join(names)}]", "compare.parallel=1", "train.launch=process"]
    config = demo(tmp_path / "run", *asked, "effects.prompts=4", "identify.top_k=4", *flags)
    for stage in ("capture", "effects", "identify", "compare", "report"):
        run_one(stage, config)
    run = RunDir(config.run_dir)
    found = run.read_json("comparison.json")
    check_comparison(found)
    assert {one["arm"]: one["verify"] for one in found[1:]} == dict.fromkeys(names, "pass")
    page = run.read_bytes("report.html").decode()
    assert all(name in page for name in names)
