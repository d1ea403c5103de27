"""`compare` chooses learning rates, and the headline's arm, on validation goals."""

import pytest

from moe_safety.evaluate.compare import compare
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from tests.evaluate.schema import check_comparison

pytestmark = pytest.mark.usefixtures("ray_here")


def test_rates_and_the_headlines_arm_are_chosen_on_validation_goals(configured):
    flags = ["compare.arms=[base, selective-routing, random]", "compare.learning_rates=[1.0e-9, 3.0e-3]"]
    config = configured("train.num_epochs=1", "evaluate.routing_prompts=0", "evaluate.reidentify=false", *flags)
    for stage in ("capture", "identify"):
        run_one(stage, config)
    compare(config)
    run = RunDir(config.run_dir)
    found = run.read_json("comparison.json")
    check_comparison(found)
    base, selective, random = found
    assert base["validation"]["asr"]["value"] == 1.0
    assert "learning_rate" not in base
    assert selective["learning_rate"] == random["learning_rate"] == 3e-3, "so small a rate moves nothing"
    trial = run.read_json("eval/validation/selective-routing.seed-42-rate-1.json")
    assert trial["overall"]["asr"]["value"] == 1.0
    prompts = {row["prompt_id"]: row["split"] for row in run.read_table("prompts.parquet").to_pylist()}
    asked = run.read_table("eval/validation/selective-routing/responses.parquet")["prompt_id"].to_pylist()
    assert {prompts[prompt] for prompt in asked} == {"validation"}
    assert selective["validation"]["asr"] == run.read_json("eval/validation/selective-routing.json")["overall"]["asr"]
    assert [arm["arm"] for arm in found if "chosen" in arm] == ["selective-routing"], "random is a control"
    assert "was chosen on" in run.read_bytes("comparison.md").decode()
    assert compare(config)["skipped"]
