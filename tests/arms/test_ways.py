"""Ways of training on whatever experts: `prefix`, `dpo`, `representation` and `lora-experts` take another arm's."""

from dataclasses import replace

import pytest
import torch

from moe_safety.arms import ARMS, arm_of, own_arm, seeded_arms, told_of
from moe_safety.arms.arm import OfArm
from moe_safety.arms.parameters import everything, selected_experts
from moe_safety.config import load_config
from moe_safety.errors import InputError
from moe_safety.evaluate.choice import choose_repair
from moe_safety.evaluate.comparison import arm_object, page
from moe_safety.models.io import load_model
from moe_safety.rundir import RunDir
from moe_safety.train.several import train_and_verify
from moe_safety.train.train import training_of
from moe_safety.train.verified import verified
from tests.arms.test_field import EXPERTS, trained
from tests.evaluate.test_gate import arm as arm_by_hand
from tests.train.byhand import configured

WAYS = [arm for arm in ARMS if arm.section and issubclass(arm.section, OfArm)]
CHOICES = [f"selective-{method}{router}" for method in ("routing", "gradient", "causal") for router in ("", "+router")]
BY_ID = {"ids": lambda arm: arm.name}


def config(*flags):
    return load_config("configs/demo.yaml", ["run_dir=runs/none", *flags])


def test_these_are_the_ways():
    assert [arm.name for arm in WAYS] == ["dpo", "lora-experts", "prefix", "representation"]


@pytest.mark.parametrize("of", [*CHOICES, "random", "most-visited", "selective-routing-permuted"])
@pytest.mark.parametrize("way", WAYS, **BY_ID)
def test_a_way_trains_what_another_arm_selects(way, of):
    asked = config(f"arms.{way.name}.experts={of}", f"compare.arms=[{way.name}, {of}]", f"train.arm={way.name}")
    seeded, other = seeded_arms(asked)
    arm, named = seeded.arm, ARMS.get(of)
    assert (arm.name, arm.loss, arm.section) == (way.name, way.loss, way.section)
    assert arm.trains is way.trains
    for what in ("choice", "phases", "may_change", "optimizer"):
        assert getattr(arm, what) == getattr(named, what)
    assert (seeded.place, seeded.control_of) == (other.place, other.control_of)
    assert seeded.config.train.router == other.config.train.router
    assert own_arm(asked) == seeded
    assert arm_of(asked) == arm


@pytest.mark.parametrize("way", WAYS, **BY_ID)
def test_unless_it_is_told_it_trains_what_causal_selects(way):
    assert way.of(config()) is way
    assert way.on("selective-causal") == way


@pytest.mark.parametrize("way", [way for way in WAYS if way.trains is selected_experts], **BY_ID)
@pytest.mark.parametrize("of", ["baseline", "attention"])
def test_a_loss_may_train_what_is_no_expert(way, of):
    (seeded,) = seeded_arms(config(f"arms.{way.name}.experts={of}", f"compare.arms=[{way.name}]"))
    assert seeded.arm == replace(ARMS.get(of), name=way.name, loss=way.loss, section=way.section, by_train=False)
    assert seeded.config.train.mode == ("baseline" if of == "baseline" else "selective")
    assert (seeded.arm.trains is everything) == (of == "baseline")


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("arms.dpo.experts=prefix", "'prefix' is no choice of what to train by the loss of answers"),
        ("arms.dpo.experts=dpo", "'dpo' is no choice"),
        ("arms.prefix.experts=router", "'router' is no choice"),
        ("arms.prefix.experts=steering", "'steering' is no choice"),
        ("arms.prefix.experts=base", "'base' is no choice"),
        ("arms.prefix.experts=selective", "did you mean"),
        ("arms.lora-experts.experts=baseline", "'baseline' selects no experts"),
        ("arms.lora-experts.experts=attention", "'attention' selects no experts"),
        ("arms.lora.experts=baseline", "arms.lora.experts"),
    ],
)
def test_what_is_no_choice_of_experts_is_refused(flag, told):
    with pytest.raises(InputError, match=told) as refused:
        config(flag)
    assert flag.partition("=")[0] in str(refused.value)


def log_of(config, arm):
    return RunDir(config.run_dir).read_json(f"train/{arm}/training_metadata.json")["training_logs"]


def test_every_parameter_may_learn_so(tmp_path):
    flags = ["train.learning_rate=1e-3", "train.num_epochs=2", "arms.dpo.experts=baseline"]
    found, tuned, asked = trained(tmp_path / "run", "dpo", *flags)
    base = dict(load_model(asked.model).named_parameters())
    moved = [name for name, own in tuned.named_parameters() if not torch.equal(own, base[name])]
    assert found["verify"] == "n/a"
    assert len(moved) > 0.9 * len(base)
    log = log_of(asked, "dpo")
    assert log[-1]["loss"] < log[0]["loss"]
    unsaid = asked.model_copy(update={"arms": {}})
    told = [training_of(own_arm(one)).settings["arm"] for one in (asked, unsaid)]
    assert told == [{"experts": "baseline", "beta": 0.1}, {"beta": 0.1}]


def test_another_method_s_experts_may_learn_so(tmp_path):
    flags = ["identify.method=routing", "arms.prefix.experts=selective-routing+router", "train.num_epochs=1"]
    asked = configured(tmp_path / "run", EXPERTS, *flags, "train.arm=prefix")
    arm = own_arm(asked)
    assert arm.place is None, "the run's own selection"
    train_and_verify(arm, force=False)
    assert [row["phase"] for row in log_of(asked, "prefix")][:3] == ["experts", "experts", "router"]
    told = verified(RunDir(asked.run_dir), arm)
    assert (told["verify"], sorted(map(tuple, told["experts"]))) == ("pass", EXPERTS)
    assert told["routers"]


def test_a_comparison_says_whose_experts_they_are():
    report = {"overall": {name: value for name, value in arm_by_hand("x").items() if isinstance(value, dict)}}
    report |= {"benign_loss": 0.5, "benign_exact": 0.9, "routing_shift": None}
    base, dpo = arm_object("base", report), arm_object("dpo", report) | {"experts_of": "baseline"}
    assert told_of(dpo).trains_all
    assert not told_of(dpo).repairs
    assert told_of(arm_object("dpo", report)).repairs
    assert told_of({"arm": "a checkpoint"}) is None
    assert "| dpo (experts of baseline) " in page([base, dpo], "test")
    for one in (base, dpo):
        one["validation"] = {name: one[name] for name in ("asr", "over_refusal", "over_refusal_control", "benign_loss")}
    margins = config().compare.margins
    assert choose_repair([base, dpo], margins) is None, "every parameter trained: no repair"
    dpo.pop("experts_of")
    assert choose_repair([base, dpo], margins)
