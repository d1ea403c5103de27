"""An arm of another package is trained, verified and compared like our own."""

import math
import shutil

import pytest

from moe_safety.arms import ARMS, own_arm, seeded_arms
from moe_safety.errors import InputError
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from moe_safety.train.several import train_and_verify
from moe_safety.train.train import train_arm
from moe_safety.train.verified import verified
from tests.demo import demo
from tests.evaluate.schema import check_comparison
from tests.train.byhand import configured

EXPERTS = [(0, 1), (2, 3), (3, 8)]
FLAGS = ["compare.arms=[base, preferred]", "compare.parallel=1"]

pytestmark = pytest.mark.usefixtures("brought")


def trained(folder, *flags):
    """The arm, and its log."""
    config = configured(folder, EXPERTS, *FLAGS, "train.num_epochs=5", *flags)
    (arm,) = seeded_arms(config)
    train_and_verify(arm, force=False)
    described = RunDir(config.run_dir).read_json("train/preferred/training_metadata.json")
    return arm, described


def test_it_is_trained_by_its_own_loss_and_changes_its_experts_alone(tmp_path):
    arm, described = trained(tmp_path / "run", "arms.preferred.beta=0.5", "train.batch_weights={'0': 2}")
    first, *_, last = [row["loss"] for row in described["training_logs"] if row["batch_idx"] == [1]]
    assert described["training_logs"][0]["loss"] in (pytest.approx(math.log(2)), pytest.approx(2 * math.log(2)))
    assert last < first / 2
    assert described["training_mode"] == "preferred_experts"
    assert described["note"] == "The experts that routing selects were trained to prefer refusals, in one round."
    found = verified(RunDir(arm.config.run_dir), arm)
    assert (found["verify"], found["violations"]) == ("pass", [])
    assert sorted(map(tuple, found["experts"])) == EXPERTS


def test_a_pair_stays_together_in_small_forward_passes(tmp_path):
    _, whole = trained(tmp_path / "whole")
    _, cut = trained(tmp_path / "cut", "train.micro_batch_tokens=40")
    losses = [[row["loss"] for row in described["training_logs"]] for described in (whole, cut)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_its_settings_and_its_file_decide_what_it_learned(tmp_path):
    arm, _ = trained(tmp_path / "run")
    inputs = RunDir(arm.config.run_dir).read_json("manifests/train.preferred.json")["inputs"]
    assert inputs["arm preferred"].split()[0] == inputs["loss preference"].split()[0] == "1.2"
    assert train_arm(arm)["skipped"]
    with pytest.raises(InputError, match=r"was run with arm\.beta = 0\.1, now 0\.2; use --force"):
        trained(tmp_path / "run", "arms.preferred.beta=0.2")
    assert ARMS.get("preferred").by_train is False


def test_a_spread_model_cannot_be_asked_as_it_was(tmp_path):
    config = configured(tmp_path / "run", EXPERTS, *FLAGS, "train.launch=ray", "train.deepspeed=3")
    (arm,) = seeded_arms(config)
    with pytest.raises(InputError, match=r"train\.deepspeed: the loss preference also asks the model before training"):
        train_arm(arm)


@pytest.mark.usefixtures("ray_here")
def test_it_stands_in_the_comparison_and_in_the_report(composed, tmp_path):
    shutil.copytree(composed, tmp_path / "run")
    flags = ["train.num_epochs=1", "evaluate.routing_prompts=0", "evaluate.reidentify=false", "evaluate.reattack=[]"]
    config = demo(tmp_path / "run", *FLAGS, *flags)
    for stage in ("capture", "identify", "compare", "report"):
        run_one(stage, config)
    run = RunDir(config.run_dir)
    found = run.read_json("comparison.json")
    check_comparison(found)
    assert [one["arm"] for one in found] == ["base", "preferred"]
    assert found[1]["verify"] == "pass"
    assert 0 < found[1]["changed_ratio"] <= found[1]["trainable_ratio"]
    assert "preferred" in run.read_bytes("report.html").decode()


def test_train_alone_trains_it_as_a_comparison_does(tmp_path):
    config = configured(tmp_path / "run", EXPERTS, *FLAGS, "train.arm=preferred")
    manifest = run_one("train", config)
    assert manifest["summary"]["arm"] == "preferred"
    (compared,) = seeded_arms(config)
    assert train_arm(compared)["skipped"]
    assert own_arm(config) == compared
    train_and_verify(compared, force=False)
    assert verified(RunDir(config.run_dir), compared)["verify"] == "pass"
