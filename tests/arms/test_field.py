"""The baselines of the field: each trains what it says by what its paper says, and nothing else."""

import shutil

import pytest
import torch
from pydantic import ValidationError

from moe_safety.arms import own_arm
from moe_safety.arms.losses.preference import Preference, pair
from moe_safety.arms.losses.recovery import tokens, twice
from moe_safety.arms.parameters import names_of
from moe_safety.batches import Example
from moe_safety.errors import InputError
from moe_safety.models import inspect_model
from moe_safety.models.io import load_model
from moe_safety.models.text.answer_losses import answer_losses, make_rows
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from moe_safety.train.data import BatchData
from moe_safety.train.several import train_and_verify
from moe_safety.train.verified import verified
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


@pytest.mark.parametrize(("arm", "part"), [("attention", "self_attn"), ("router", "mlp.gate")])
def test_one_part_trains_and_nothing_else(tmp_path, arm, part):
    found, tuned, config = trained(tmp_path / "run", arm, "train.router.lr=1e-2")
    assert found["verify"] == "pass"
    assert found["experts"] == []
    base = load_model(config.model).state_dict()
    changed = [name for name, value in tuned.state_dict().items() if not torch.equal(value, base[name])]
    assert changed
    assert all(part in name for name in changed)
    assert 0 < found["changed_ratio"] < 0.2
    assert RunDir(config.run_dir).exists(f"train/{arm}/delta.safetensors") == (arm == "router")


def test_a_model_without_shared_experts_has_none_to_train(tmp_path):
    with pytest.raises(InputError, match="olmoe has no shared experts"):
        trained(tmp_path / "run", "shared-experts")
    model = build("qwen2_moe")
    names = names_of(["shared experts"], model, inspect_model(model))
    assert names
    assert all("shared_expert" in name for name in names)


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
