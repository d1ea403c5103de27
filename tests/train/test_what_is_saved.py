"""What is left of an arm: a checkpoint and its delta, or the delta alone."""

import weakref

import pytest
import torch
from safetensors.torch import load_file

from moe_safety.arms import own_arm, seeded_arms
from moe_safety.checkpoints import apply_delta
from moe_safety.config import ModelConfig
from moe_safety.evaluate.evaluated_models import arm_subject
from moe_safety.models.io import kept_model, load_model, model_folder
from moe_safety.rundir import RunDir
from moe_safety.train.several import train_and_verify, train_arms
from moe_safety.train.train import train
from moe_safety.train.verified import verified
from tests.objectstore import serving
from tests.train.byhand import configured

EXPERTS = [(0, 1), (2, 3), (3, 8)]
ROUNDS = ["train.router.enabled=true", "train.router.lr=1e-3", "train.num_rounds=2"]


def trained(folder, save, *flags):
    config = configured(folder, EXPERTS, "train.learning_rate=1e-3", f"train.save={save}", *flags)
    return config, train(config)["summary"]


@pytest.mark.parametrize("flags", [[], ROUNDS], ids=["a phase", "rounds"])
def test_a_delta_alone_is_the_delta_of_the_checkpoint(tmp_path, capsys, flags):
    one, whole = trained(tmp_path / "whole", "model", *flags)
    other, alone = trained(tmp_path / "alone", "delta", *flags)
    told = capsys.readouterr().out
    assert f"left as {alone['delta']}; `moe-safety delta apply` makes a checkpoint of it and the base" in told
    runs = RunDir(one.run_dir), RunDir(other.run_dir)
    assert alone["final_model"] is None
    assert runs[1].read_bytes(alone["delta"]) == runs[0].read_bytes(whole["delta"])
    left = [name for name in runs[1].files("train") if name.endswith(".safetensors")]
    assert all(name.endswith("/delta.safetensors") for name in left), "no other weights"

    apply_delta(model_folder(other.model), runs[1].path(alone["delta"]), tmp_path / "applied")
    final = load_file(runs[0].path(f"{whole['final_model']}/model.safetensors"))
    applied = load_file(tmp_path / "applied" / "model.safetensors")
    assert applied.keys() == final.keys()
    assert all((applied[name] == final[name]).all() for name in final)
    subjects = [arm_subject(config, run, whole["arm"]) for config, run in zip((one, other), runs, strict=True)]
    assert subjects[0].identity == subjects[1].identity
    loaded = load_model(subjects[1].model).state_dict()
    direct = load_model(subjects[0].whole).state_dict()
    assert all((loaded[name] == direct[name]).all() for name in direct)


def test_verify_takes_the_delta_and_says_the_same(tmp_path):
    found = []
    for save in ("model", "delta"):
        flags = ["train.learning_rate=1e-3", f"train.save={save}", "compare.arms=[selective-routing]"]
        config = configured(tmp_path / save, EXPERTS, *flags)
        (arm,) = seeded_arms(config)
        train_and_verify(arm, force=False)
        found.append(verified(RunDir(config.run_dir), arm))
    assert found[0] == found[1]
    assert found[0]["verify"] == "pass"
    assert found[0]["experts"] == [list(pair) for pair in EXPERTS]


def test_an_arm_that_trains_everything_leaves_its_model(tmp_path):
    config, left = trained(tmp_path / "run", "delta", "train.mode=baseline")
    run = RunDir(config.run_dir)
    assert left["delta"] is None
    assert run.exists(f"{left['final_model']}/model.safetensors")


def test_another_way_of_saving_does_not_train_again(tmp_path):
    trained(tmp_path / "run", "delta")
    config = configured(tmp_path / "again", EXPERTS)
    assert config.train.save == "model"
    again = config.model_copy(update={"run_dir": str(tmp_path / "run")})
    again = again.model_copy(update={"train": again.train.model_copy(update={"learning_rate": 1e-3})})
    assert train(again)["skipped"]


def test_on_a_store_rounds_go_on_from_deltas_and_the_arm_is_loaded_by_its_own(tmp_path):
    here, alone = trained(tmp_path / "here", "delta", *ROUNDS)
    with pytest.MonkeyPatch.context() as environment, serving(environment) as uri:
        there, stored = trained(uri.replace("NAME", "run"), "delta", *ROUNDS)
        run = RunDir(there.run_dir)
        assert run.read_bytes(stored["delta"]) == RunDir(here.run_dir).read_bytes(alone["delta"])
        subject = arm_subject(there, run, stored["arm"])
        assert subject.identity == arm_subject(here, RunDir(here.run_dir), alone["arm"]).identity
        loaded = load_model(subject.model)
        direct = load_model(here.model.with_delta(RunDir(here.run_dir).path(alone["delta"])))
        weights = direct.state_dict()
        assert all((tensor == weights[name]).all() for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("arm", ["selective-routing", "router"])
def test_a_process_goes_on_with_the_model_that_it_trained(tmp_path, arm):
    first = kept_model(ModelConfig(name="demo"), 1)
    flags = ["train.learning_rate=1e-3", "train.save=delta", f"train.arm={arm}"]
    train_and_verify(own_arm(configured(tmp_path / "run", EXPERTS, *flags)), force=False)
    after = kept_model(ModelConfig(name="demo"), 1)
    assert after is first
    fresh = load_model(ModelConfig(name="demo"))
    there, here = (dict(model.named_parameters()) for model in (fresh, after))
    assert there.keys() == here.keys()
    for name, parameter in there.items():
        assert torch.equal(parameter, here[name]), name
        assert (parameter.requires_grad, None) == (here[name].requires_grad, here[name].grad), name
    assert [type(module) for module in fresh.modules()] == [type(module) for module in after.modules()]


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_command_gives_back_the_card_that_replicas_will_fill(tmp_path, command):
    config = configured(tmp_path, EXPERTS, "compare.arms=[selective-routing]")
    there = weakref.ref(kept_model(config.model, 1))
    if command == "train":
        train(config)
    else:
        train_arms(config, seeded_arms(config), anew=(), told=lambda *_: None)
    assert there() is None
