"""The effect with the best other experts held back as well."""

import numpy as np
import pytest
import torch

from moe_safety import expert_effects
from moe_safety.effects.conditional import RISE, conditional
from moe_safety.effects.effects import effects
from moe_safety.effects.table import against_control, by_prompt, effects_table
from moe_safety.errors import InputError
from moe_safety.identify import Experts
from moe_safety.identify.identify import identify
from moe_safety.identify.inputs import part_scores
from moe_safety.identify.select import Rule
from moe_safety.jobs import Parts, Plan
from moe_safety.models import inspect_model
from moe_safety.models.io import load_model
from moe_safety.rundir import RunDir, summary_of
from moe_safety.scores import SCORES
from tests.families import build

ASKED = ("effects.prompts=4", "effects.candidates=12", "identify.method=causal", "identify.score=effect_conditional")


def test_an_expert_that_is_held_back_keeps_what_it_had():
    layout = inspect_model(build("olmoe"))
    first, second = np.zeros((2, *layout.shape)), np.ones((2, *layout.shape))
    first[0, 0, 0], second[:, 0, 0], second[1] = 3.0, np.nan, 0.0
    second[:, 0, 0], first[:, 0, 1], second[:, 0, 1] = np.nan, np.nan, np.nan
    tables = [effects_table(layout, ["a", "b"], ["unsafe", "control"], [0.0] * 2, of) for of in (first, second)]
    values = conditional(tables)
    assert values[0] == 3.0
    assert np.isnan(values[1])
    assert (values[2:] == 0.5).all()


@pytest.mark.usefixtures("ray_here")
def test_every_candidate_is_measured_again_without_the_best(configured):
    config = configured(*ASKED)
    summary = effects(config)["summary"]
    run, layout = RunDir(config.run_dir), inspect_model(load_model(config.model))
    tables = [run.read_table(name) for name in ("effects/effects.parquet", *summary["held"])]
    assert len(tables) == 3
    candidates = np.flatnonzero(~np.isnan(by_prompt(tables[0])[0]))
    values = run.read_table("expert_effects.parquet")["effect_conditional"].to_numpy()
    np.testing.assert_array_equal(np.isnan(values), np.isnan(conditional(tables)[Experts.of_layout(layout).flat]))
    held = []
    for number, table in enumerate(tables[1:], start=1):
        held.append(np.setdiff1d(candidates, np.flatnonzero(~np.isnan(by_prompt(table)[0]))))
        order = Rule(0.0, len(values)).choose(np.nan_to_num(conditional(tables[:number]), nan=-1.0)[None])[0]
        assert set(held[-1]) == set(order[: len(held[-1])]), "the best so far"
        losses = np.concatenate([part["losses"].to_pylist() for part in parts(run, f"harmless_{number}")]).mean(axis=0)
        assert (losses[1] - losses[0] <= RISE) == (len(held[-1]) > 0)
    # By hand: the same with these experts' own weights at 0.
    torch.set_num_threads(1)
    row = Plan(run, "plans/effects_held_2.parquet").rows(0).to_pylist()[0]
    model = load_model(config.model)
    for place in held[1]:
        position, expert = divmod(int(place), layout.max_experts)
        model.get_submodule(layout.layers[position].experts).down_proj.data[expert] = 0
    pairs = [(layout.layers[place // layout.max_experts].index, place % layout.max_experts) for place in row["experts"]]
    expected = expert_effects(model, [row["prompt"]], [row["safe"]], [row["unsafe"]], pairs).flatten()
    found = by_prompt(tables[2])[tables[2]["prompt_id"].to_pylist().index(row["prompt_id"])]
    assert found[row["experts"]] == pytest.approx(expected[row["experts"]].numpy(), abs=1e-5)
    # The score, of all prompts and as it stands in the table.
    score = SCORES.get("effect_conditional")
    found = part_scores(score, score.reads.collected(run), Experts.of_layout(layout))
    np.testing.assert_array_equal(found, values)
    assert not np.array_equal(found, against_control(tables[0])[Experts.of_layout(layout).flat], equal_nan=True)
    assert effects(config)["skipped"]


def parts(run, name):
    return Parts(run, f"effects/_{name}", Plan(run, f"plans/effects_{name}.parquet")).tables()


@pytest.mark.usefixtures("ray_here")
def test_only_who_asks_for_it_pays_for_it(configured):
    config = configured(*ASKED[:2])
    effects(config)
    run = RunDir(config.run_dir)
    assert summary_of(run, "effects")["held"] == []
    assert "effect_conditional" not in run.read_table("expert_effects.parquet").column_names
    asks = config.identify.model_copy(update={"score": "effect_conditional"})
    with pytest.raises(InputError, match="run `effects` again"):
        identify(config.model_copy(update={"identify": asks}))
