"""Every arm says all that the stages ask of it."""

import pytest

from moe_safety.arms import ARMS, LOSSES, Arm, arm_of, own_arm, seeded_arms
from moe_safety.arms.parameters import everything, selected_experts
from moe_safety.config import load_config
from moe_safety.errors import InputError

NAMES = [
    "base",
    "baseline",
    *(f"selective-{method}{router}" for method in ("routing", "gradient", "causal") for router in ("", "+router")),
    *(f"{control}{router}" for control in ("random", "random-layer-matched") for router in ("", "+router")),
    "steering",
]


def config(*flags):
    return load_config("configs/demo.yaml", ["run_dir=runs/none", *flags])


def test_all_are_there():
    assert set(ARMS.names()) >= set(NAMES)


@pytest.mark.parametrize("name", ARMS.names())
def test_an_arm_is_complete(name):
    arm = ARMS.get(name)
    assert arm.note(config()).endswith(".")
    assert "{" not in arm.note(config())
    assert arm.loss in LOSSES
    assert set(arm.phases) <= {"experts", "router"}
    assert len(set(arm.phases)) == len(arm.phases)
    assert ("experts" in arm.phases) == (arm.trains is not None)
    assert bool(arm.phases) == bool(arm.may_change) == bool(arm.training_mode)
    assert ("router" in arm.phases) == ("routers" in arm.may_change)
    if arm.trains is selected_experts:
        assert arm.choice is not None
        assert "experts" in arm.may_change
        assert arm.optimizer == "lazy", "an expert at rest would decay"
    if arm.trains is everything:
        assert arm.may_change == {"everything"}
    if arm.choice:
        assert arm.choice.words
        rule = arm.choice.rule(arm.choice.settings(config().identify))
        assert rule["method"] == arm.choice.method


@pytest.mark.parametrize("name", LOSSES.names())
def test_a_loss_is_complete(name):
    loss = LOSSES.get(name)
    assert loss.says
    assert callable(loss.terms)


@pytest.mark.parametrize("method", ["routing", "gradient", "causal"])
@pytest.mark.parametrize("name", [arm.name for arm in ARMS if arm.choice and arm.choice.controls == "experts"])
def test_a_control_is_one_of_the_run_s_own_arm(name, method):
    (seeded,) = seeded_arms(config(f"identify.method={method}", f"compare.arms=[{name}]"))
    assert seeded.control_of == f"selective-{method}"
    own = ARMS.get(seeded.control_of)
    assert own.repairs
    assert own.method == method


@pytest.mark.parametrize("name", [arm.name for arm in ARMS if arm.by_train])
def test_train_runs_what_a_comparison_runs(name):
    (seeded,) = seeded_arms(config(f"compare.arms=[{name}]"))
    assert arm_of(seeded.config) is ARMS.get(name)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm.hardens])
def test_train_runs_the_arm_that_is_named(arm):
    asked = config(f"train.arm={arm.name}", f"compare.arms=[{arm.name}]")
    if not arm.phases:
        with pytest.raises(InputError, match=rf"train\.arm: the arm '{arm.name}' trains nothing"):
            own_arm(asked)
    else:
        assert own_arm(asked) == seeded_arms(asked)[0]


def test_an_arm_with_routers_begins_as_the_one_without_them():
    kinds = [f"selective-{method}" for method in ("routing", "gradient", "causal")]
    kinds += ["random", "random-layer-matched"]
    named = [f"{kind}{router}" for kind in kinds for router in ("+router", "")]
    arms = seeded_arms(config(f"compare.arms={['base', 'baseline', *named]}", "compare.seeds=[42, 1]"))
    begins = {arm.name: arm.begins_as for arm in arms if arm.begins_as}
    assert begins == {f"{kind}+router{seed}": f"{kind}{seed}" for kind in kinds for seed in ("", ".seed-1")}


@pytest.mark.parametrize("name", ["prefix", "dpo"])
def test_a_way_of_training_with_routers_is_no_other_arm_s(name):
    own = f"arms.{name}.experts=selective-causal+router"
    (arm,) = seeded_arms(config(f"compare.arms=['{name}']", own))
    assert (arm.arm.phases, arm.begins_as) == (("experts", "router"), None)


def test_a_name_is_one_of_a_folder():
    for name in ("a/b", "a.seed-7"):
        with pytest.raises(ValueError, match="cannot be the name of a folder"):
            Arm(name, "Nothing.")


def test_settings_of_an_arm_without_any_are_refused():
    with pytest.raises(InputError, match="the arm 'steering' takes no settings"):
        config("arms.steering.width=3")
