import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
import torch

from moe_safety import expert_effects
from moe_safety.effects.effects import effects
from moe_safety.effects.table import by_prompt
from moe_safety.errors import InputError
from moe_safety.jobs import Plan
from moe_safety.models.io import load_model
from moe_safety.rundir import RunDir

pytestmark = pytest.mark.usefixtures("ray_here")

SMALL = ("effects.prompts=4", "effects.candidates=12", "effects.max_tokens_per_forward=800")


def read(config):
    run = RunDir(config.run_dir)
    return run.read_table("effects/effects.parquet"), run.read_table("expert_effects.parquet")


def test_the_same_for_any_number_of_actors_and_as_the_library_says(configured, capsys):
    one = configured(*SMALL, "effects.replicas=1", name="one")
    summary = effects(one)["summary"]
    assert summary["prompts"] == {"unsafe": 4, "control": 4}
    assert summary["experts"] == 12
    two = configured(*SMALL, "effects.replicas=2", name="two")
    effects(two)
    prompts, experts = read(one)
    others = read(two)
    np.testing.assert_array_equal(by_prompt(prompts), by_prompt(others[0]))  # Here NaN equals NaN.
    assert prompts.drop_columns("effects").equals(others[0].drop_columns("effects"))
    assert experts.equals(others[1])
    assert effects(two)["skipped"]

    # Against the library function, a prompt at a time.
    torch.set_num_threads(1)
    plan = Plan(RunDir(one.run_dir), "plans/effects.parquet")
    rows = [plan.rows(item).to_pylist()[0] for item in range(len(plan))]
    row = rows[0]
    pairs = [divmod(place, 16) for place in row["experts"]]
    expected = expert_effects(load_model(one.model), [row["prompt"]], [row["safe"]], [row["unsafe"]], pairs)
    found = by_prompt(prompts)[prompts["prompt_id"].to_pylist().index(row["prompt_id"])]
    places = row["experts"]
    assert found[places] == pytest.approx(expected.flatten()[places].numpy(), abs=1e-5)

    # The table: unsafe minus control, nothing where nothing was measured.
    frame = pd.DataFrame(experts.to_pydict())
    labels, values = np.array(prompts["label"].to_pylist()), by_prompt(prompts)
    assert frame["effect"].notna().sum() == 12
    by_hand = values[labels == "unsafe"].mean(axis=0) - values[labels == "control"].mean(axis=0)
    assert frame["effect"].to_numpy() == pytest.approx(by_hand, nan_ok=True)
    assert (frame["against"] == "control").all()
    measured = frame[frame["effect"].notna()]
    assert ((measured["low"] <= measured["effect"]) & (measured["effect"] <= measured["high"])).all()
    weakest = measured["first_order"].abs().min()
    assert (frame[frame["effect"].isna()]["first_order"].abs() <= weakest).all(), "the strongest were measured"


def test_without_controls_the_unsafe_side_stands_alone_and_says_so(configured, capsys):
    config = configured(*SMALL)
    run = RunDir(config.run_dir)
    table = run.read_table("batches.parquet")
    run.write_table("batches.parquet", table.filter(pc.not_equal(table["label"], "control")))
    effects(config)
    assert "effects are those on unsafe prompts alone" in capsys.readouterr().out
    assert set(read(config)[1]["against"].to_pylist()) == {"none"}


def test_no_unsafe_prompts_is_an_error(configured):
    config = configured(*SMALL)
    run = RunDir(config.run_dir)
    table = run.read_table("batches.parquet")
    run.write_table("batches.parquet", table.filter(pc.not_equal(table["label"], "unsafe")))
    with pytest.raises(InputError, match="no unsafe prompt with an answer"):
        effects(config)
