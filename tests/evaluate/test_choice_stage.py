"""`compare` chooses learning rates, and the headline's arm, on validation goals; and draws a budget curve."""

import pytest

from moe_safety.evaluate.compare import compare
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir, manifest_name
from tests.evaluate.schema import check_comparison

pytestmark = pytest.mark.usefixtures("ray_here")


def test_rates_and_the_headlines_arm_are_chosen_on_validation_goals(configured):
    flags = ["compare.arms=[base, selective-routing]", "compare.learning_rates=[1.0e-9, 1.0e-2]"]
    flags += ["compare.budgets=[1,2]", "compare.draws=1"]
    # After an epoch an arm may refuse too much, and a rate that moves nothing never does.
    flags.append("compare.margins={over_refusal: 1.0, over_refusal_control: 1.0, benign_loss: 9.0}")
    config = configured("train.num_epochs=1", "evaluate.routing_prompts=0", "evaluate.reidentify=false", *flags)
    for stage in ("capture", "identify"):
        run_one(stage, config)
    compare(config)
    run = RunDir(config.run_dir)
    found = run.read_json("comparison.json")
    check_comparison(found)
    base, selective = found
    assert base["validation"]["asr"]["value"] == 1.0
    assert "learning_rate" not in base
    assert selective["learning_rate"] == 1e-2, "so small a rate moves nothing"
    trial = run.read_json("eval/validation/selective-routing.seed-42-rate-1.json")
    assert trial["overall"]["asr"]["value"] == 1.0
    splits = {row["goal_id"]: row["split"] for row in run.read_table("prompts.parquet").to_pylist()}
    asked = run.read_table("eval/validation/selective-routing/responses.parquet").to_pylist()
    assert {splits[row["goal_id"]] for row in asked} == {"validation"}
    assert {row["reattack"] for row in asked} == {False, True}, "wrappers that training never saw weigh as well"
    assert list(selective["validation"]["reattack"]) == ["role_play"]
    assert selective["validation"]["asr"] == run.read_json("eval/validation/selective-routing.json")["overall"]["asr"]
    assert [arm["arm"] for arm in found if "chosen" in arm] == ["selective-routing"]
    assert "was chosen on" in run.read_bytes("comparison.md").decode()
    curve = run.read_json("budget_curve.json")
    assert list(curve["kinds"]) == ["own-selection", "random", "random-layer-matched", "random-load-matched"]
    assert [point["budget"] for point in curve["kinds"]["random"]["points"]] == [1, 2]
    assert curve["chosen"]["budget"] in (1, 2)
    asked = run.read_table("eval/budgets/own-selection.seed-42-budget-1/responses.parquet").to_pylist()
    assert {row["reattack"] for row in asked} == {False}, "the curve asks what it tells of, and no more"
    assert not run.exists("eval/own-selection.seed-42-budget-1.json")
    assert run.read_json("eval/validation/own-selection.seed-42-budget-1.json")["split"] == "validation"
    random = run.read_json(manifest_name("train/random.seed-42-budget-1"))
    assert random["settings"]["train"]["learning_rate"] == 1e-2, "budgets take the rate that was chosen"
    assert list(selective["margins"]) == ["over_refusal", "over_refusal_control", "benign_loss"]
    assert 0 <= curve["kinds"]["own-selection"]["area"]["value"] <= 1
    assert "## By budget" in run.read_bytes("comparison.md").decode()
    assert compare(config)["skipped"]
