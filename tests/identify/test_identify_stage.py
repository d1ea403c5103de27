import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from moe_safety.batches.compose import settings_of
from moe_safety.batches.files import prompts_digest
from moe_safety.errors import InputError
from moe_safety.identify import read_selection
from moe_safety.identify.identify import identify
from moe_safety.identify.statistics import (
    aggregate_batch_risk_diffs,
    calculate_risk_diff_per_batch,
    create_expert_mask,
    identify_unsafe_experts,
)
from moe_safety.rundir import Outcome, RunDir, Work, run_work
from tests.identify.synthetic import Invented, invent, make_layout, with_settings

LAYOUT = make_layout((4, 6), first=1)
LIFT = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0.3, 0, 0.5, 0.2]])
TABLES = {"risk_diff", "batch_risk_diff", "category_risk_diff", "overlap", "expert_overlap"}
RISK_COLUMNS = [
    *("layer", "expert", "a_safe", "n_safe", "a_unsafe", "n_unsafe", "a_safe_n", "a_unsafe_n", "risk_diff"),
    *("Layer_Expert", "risk_diff_mean", "risk_diff_std", "low", "high", "q_value", "selected_share"),
    *("risk_diff_control", "low_control", "high_control"),
]


@pytest.fixture(scope="module")
def made():
    return invent(LAYOUT, goals=24, per_batch=4, harmless=2, lift=LIFT)


def tables(config):
    run = RunDir(config.run_dir)
    return {name: run.read_table(f"{name}.parquet").to_pandas() for name in TABLES}


def load(config, name):
    return np.load(RunDir(config.run_dir).path(name), allow_pickle=False)


def test_everything_is_written_and_agrees_with_the_library(made, tmp_path):
    config = made.write(tmp_path, top_k=3)
    manifest = identify(config)
    found = tables(config)
    batches = [
        calculate_risk_diff_per_batch(
            np.stack([made.counts[prompt] for prompt in prompts]),
            [made.tokens[prompt] for prompt in prompts],
            [label for label, _ in prompts],
            LAYOUT,
        )
        for prompts in ([place[1:] for place in made.places if place[0] == batch] for batch in range(6))
    ]
    by_batch = found["batch_risk_diff"]
    for batch, table in enumerate(batches):
        stored = by_batch[by_batch["batch_idx"] == batch].drop(columns=["batch_idx", "risk_diff_control"])
        pd.testing.assert_frame_equal(stored.reset_index(drop=True), table)
    pooled = aggregate_batch_risk_diffs(batches)
    assert list(found["risk_diff"].columns) == RISK_COLUMNS
    pd.testing.assert_frame_equal(found["risk_diff"][pooled.columns], pooled)
    assert (found["risk_diff"]["low"] <= found["risk_diff"]["risk_diff"]).mean() > 0.9

    selection = read_selection(RunDir(config.run_dir))
    assert selection.experts == identify_unsafe_experts(pooled, 0.05, 3)
    assert selection.experts[0] == (2, 4)
    assert selection.per_batch == {
        batch: identify_unsafe_experts(table, 0.05, 3) for batch, table in enumerate(batches)
    }
    assert selection.inputs.keys() == {"prompts.parquet", "batches.parquet", "routing"}
    assert np.array_equal(load(config, "expert_mask.npy"), create_expert_mask(LAYOUT, selection.experts))
    masks = load(config, "batch_expert_masks.npy")
    assert masks.dtype == bool
    expected = [create_expert_mask(LAYOUT, experts) for experts in selection.per_batch.values()]
    assert np.array_equal(masks, np.stack(expected))
    shares = found["risk_diff"].set_index(["layer", "expert"])["selected_share"]
    assert shares[2, 4] == np.mean([(2, 4) in experts for experts in selection.per_batch.values()])

    outputs = {
        *(f"{name}.parquet" for name in (*TABLES, "agreement")),
        "selection.json",
        "expert_mask.npy",
        "batch_expert_masks.npy",
    }
    outputs |= {"risk_diff.png", "risk_diff_categories.png", "risk_rank.png"}
    assert manifest["outputs"].keys() == outputs


def test_categories_have_tables_of_their_own(made, tmp_path):
    config = made.write(tmp_path)
    identify(config)
    table = tables(config)["category_risk_diff"]
    assert table["category"].unique().tolist() == ["blue", "red"]
    red = [place[1:] for place in made.places if place[0] % 2 == 0 and place[1] in ("safe", "unsafe")]
    expected = calculate_risk_diff_per_batch(
        np.stack([made.counts[prompt] for prompt in red]),
        [made.tokens[prompt] for prompt in red],
        [label for label, _ in red],
        LAYOUT,
    )
    stored = table[table["category"] == "red"].drop(columns=["category", "risk_diff_control"])
    pd.testing.assert_frame_equal(stored.reset_index(drop=True), expected)


def test_it_prints_what_was_found(made, tmp_path, capsys):
    config = made.write(tmp_path, top_k=3)
    identify(config)
    printed = capsys.readouterr().out
    assert printed.startswith("identify: 6 batches, 10 experts\n  counted tokens: ")
    assert max(map(len, printed.splitlines())) <= 80
    assert "selected by routing: risk_diff > 0.05, top_k 3" in printed
    sizes = [len(experts) for experts in read_selection(RunDir(config.run_dir)).per_batch.values()]
    assert f"per batch: min {min(sizes)}, max {max(sizes)}, mean {np.mean(sizes):.1f}, in any batch " in printed
    assert "split-half rank correlation: 0." in printed
    first = tables(config)["risk_diff"].set_index("Layer_Expert").loc["L02_E04"]
    spread = "[{low:+.4f}, {high:+.4f}]".format(**first)
    rest = "{q_value:>7.2g}{a_unsafe_n:>8.3f}{a_safe_n:>8.3f}{risk_diff_control:>+12.3f}".format(**first)
    assert f"    L02_E04  {first['risk_diff']:>+9.4f}  {spread}{rest}\n" in printed
    assert "  batch 4: L" in printed
    assert "  batch 5: L" not in printed
    assert "  and 1 more" in printed
    assert "  category red (" in printed
    identify(config)
    again = capsys.readouterr().out
    assert again == "identify: 6 batches, 10 experts (unchanged)\n"


def test_the_same_inputs_give_the_same_bytes_whatever_the_parts(made, tmp_path):
    first, second = (identify(made.write(tmp_path / str(parts), parts))["outputs"] for parts in (1, 5))
    # The selection names the hash of the parts.
    assert {name: digest for name, digest in first.items() if name != "selection.json"} == {
        name: digest for name, digest in second.items() if name != "selection.json"
    }


@pytest.mark.parametrize("score", ["risk_diff", "risk_diff_mean", "risk_diff_control", "weight"])
def test_the_score_drives_the_selection(made, tmp_path, score):
    config = made.write(tmp_path, score=score, top_k=4, threshold=0.0)
    identify(config)
    table = tables(config)["risk_diff"]
    column = "risk_diff_weight" if score == "weight" else score
    selection = read_selection(RunDir(config.run_dir))
    assert selection.experts == identify_unsafe_experts(table, 0.0, 4, score=column)
    by_batch = tables(config)["batch_risk_diff"]
    column = "risk_diff" if score == "risk_diff_mean" else column
    for batch, experts in selection.per_batch.items():
        own = by_batch[by_batch["batch_idx"] == batch]
        assert experts == identify_unsafe_experts(own, 0.0, 4, score=column)


def test_the_weight_score_is_of_mean_weights(made, tmp_path):
    config = made.write(tmp_path, score="weight", threshold=0.0)
    identify(config)
    table = tables(config)["risk_diff"]
    # The invented weight of each routed token is a quarter.
    for weighed, counted in (("risk_diff_weight", "risk_diff"), ("low_weight", "low"), ("high_weight", "high")):
        assert np.allclose(table[weighed], table[counted] / 4)


def test_the_control_adjusted_difference_of_a_category_uses_all_harmless_prompts(made, tmp_path):
    config = made.write(tmp_path)
    identify(config)
    found = tables(config)
    whole, red = found["risk_diff"], found["category_risk_diff"].query("category == 'red'").reset_index()
    harmless = whole["risk_diff"] - whole["risk_diff_control"]
    assert np.allclose(red["risk_diff"] - red["risk_diff_control"], harmless)
    assert not np.allclose(harmless, 0)


def test_intervals_are_as_wide_as_the_smallest_group_makes_them(tmp_path):
    """Many attacked goals do not make up for two harmless ones, and one harmless goal gives no interval."""

    def widths(harmless):
        made = invent(LAYOUT, goals=24, per_batch=24, harmless=harmless, categories=())
        config = made.write(tmp_path / str(harmless), bootstrap_rounds=400)
        identify(config, pictures=False)
        table = tables(config)["risk_diff"]
        return table["high"] - table["low"], table["high_control"] - table["low_control"]

    plain, none = widths(1)
    assert (plain > 0).all()
    assert none.isna().all()
    assert (widths(2)[1] > 8 * widths(12)[1]).mean() > 0.5


def test_a_batch_without_counted_tokens_of_a_label_has_nulls_and_says_so(tmp_path, capsys):
    made = invent(LAYOUT, goals=8, per_batch=4)
    for goal in range(4):
        made.tokens["safe", goal] = 0
        made.counts["safe", goal][:] = 0
    config = made.write(tmp_path)
    identify(config)
    printed = capsys.readouterr().out
    assert "4 prompts have no counted token" in printed
    assert "1 batches lack counted tokens of a label: their rates are undefined, null in the tables" in printed
    stored = RunDir(config.run_dir).read_table("batch_risk_diff.parquet")
    assert stored["risk_diff"].null_count == stored["a_safe_n"].null_count == len(stored) // 2
    for name in stored.column_names:
        values = stored[name].drop_null().to_numpy()
        assert not (values.dtype.kind == "f" and np.isnan(values).any())
    assert read_selection(RunDir(config.run_dir)).per_batch[0] == []


def test_no_table_holds_nan(tmp_path):
    config = invent(LAYOUT, goals=4, per_batch=4, categories=()).write(tmp_path)
    identify(config)
    stored = RunDir(config.run_dir).read_table("risk_diff.parquet")
    # One batch has no deviation, and without harmless prompts there is nothing to adjust by.
    empty = {name for name in stored.column_names if stored[name].null_count}
    assert empty == {"risk_diff_std", "risk_diff_control", "low_control", "high_control"}
    for name in stored.column_names:
        values = stored[name].drop_null().to_numpy()
        assert not (values.dtype.kind == "f" and np.isnan(values).any())
    assert RunDir(config.run_dir).read_table("category_risk_diff.parquet").num_rows == 0
    assert RunDir(config.run_dir).exists("risk_diff_batches.png")


def test_a_router_that_sends_all_to_one_expert(tmp_path):
    made = Invented(make_layout((4,)))
    for goal in range(8):
        made.add(goal // 4, "safe", goal, 10, [[10, 0, 0, 0]])
        made.add(goal // 4, "unsafe", goal, 20, [[20, 0, 0, 0]])
    config = made.write(tmp_path)
    manifest = identify(config)
    table = tables(config)["risk_diff"]
    assert table["a_safe_n"].tolist() == table["a_unsafe_n"].tolist() == [1, 0, 0, 0]
    assert table["risk_diff"].tolist() == [0, 0, 0, 0]
    assert table["q_value"].tolist() == [1, 1, 1, 1]
    assert manifest["summary"]["selected"] == 0
    assert manifest["summary"]["split_half"] is None
    assert not load(config, "batch_expert_masks.npy").any()


def test_random_without_any_safe_prompt(tmp_path, capsys):
    made = invent(LAYOUT, goals=8, per_batch=4)
    made.places = [place for place in made.places if place[1] == "unsafe"]
    config = made.write(tmp_path, method="random")
    identify(config)
    assert len(read_selection(RunDir(config.run_dir)).experts) == 3
    assert "10 experts have no score" in capsys.readouterr().out


def test_changed_settings_refuse_and_force_redoes(made, tmp_path):
    config = made.write(tmp_path)
    identify(config)
    other = with_settings(config, top_k=2)
    with pytest.raises(InputError, match=r"top_k = 3, now 2; use --force"):
        identify(other)
    identify(other, force=True)
    assert len(read_selection(RunDir(config.run_dir)).experts) == 2


def test_a_mistaken_setting_leaves_nothing_behind(made, tmp_path):
    config = made.write(tmp_path)
    with pytest.raises(InputError, match=r"identify.top_k: 11 experts are asked for, and the model has 10"):
        identify(with_settings(config, top_k=11))
    identify(config)
    # With a share in place of the number, the number is not looked at.
    identify(with_settings(config, top_k=11, top_p=0.5), force=True)


def emptied(config):
    run = RunDir(config.run_dir)
    run.write_table("batches.parquet", run.read_table("batches.parquet").slice(0, 0))
    stored = json.loads(run.read_bytes("manifests/capture.json"))
    stored["inputs"]["prompts"] = prompts_digest(run)
    run.write_json("manifests/capture.json", stored)
    return config


def without(name):
    def remove(config):
        RunDir(config.run_dir).delete(name)
        return config

    return remove


def another_model(config):
    (RunDir(config.model.name)).write_json("config.json", {"model_type": "another"})
    return config


def other_batches(config):
    run = RunDir(config.run_dir)
    run.write_table("batches.parquet", run.read_table("batches.parquet").slice(1))
    return config


def damaged_part(config):
    run = RunDir(config.run_dir)
    run.write_table("routing/part-000001.parquet", run.read_table("routing/part-000001.parquet").slice(1))
    return config


def other_prompts(config):
    run = RunDir(config.run_dir)
    run.write_table("prompts.parquet", run.read_table("prompts.parquet").slice(1))
    return config


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (emptied, "batches.parquet: holds no batch"),
        (without("prompts.parquet"), "prompts.parquet: is not there; run the stages before `identify`"),
        (without("batches.parquet"), "batches.parquet: is not there"),
        (without("manifests/capture.json"), "`capture` has not been run yet"),
        (without("routing/part-000000.parquet"), "part-000000.parquet: is not what `capture` wrote"),
        (damaged_part, "part-000001.parquet: is not what `capture` wrote"),
        (another_model, "the counts are of another model or tokenizer"),
        (other_batches, "the counts are not of the prompts in batches.parquet"),
        (other_prompts, "batches.parquet, row 1: 'safe-0' is not in prompts.parquet"),
        (lambda config: with_settings(config, score="risk_diff_control"), "risk_diff_control needs control prompts"),
    ],
)
def test_bad_input_is_one_line(tmp_path, spoil, complaint):
    config = spoil(invent(LAYOUT, goals=8).write(tmp_path))
    with pytest.raises(InputError, match=complaint) as error:
        identify(config)
    assert "\n" not in str(error.value)
    assert not RunDir(config.run_dir).exists("manifests/identify.json")


@pytest.mark.parametrize(
    ("section", "change", "told"),
    [
        (
            "capture",
            {"tokens": "all"},
            r"`capture` was run with capture.tokens = response, now all; run `capture` again",
        ),
        ("model", {"dtype": "bfloat16"}, r"`capture` was run with model.dtype = auto, now bfloat16"),
        ("batches", {"max_length": 100}, r"`compose` was run with batches\.max_length = \d+, now 100"),
    ],
)
def test_counts_that_were_taken_in_another_way_are_not_said_to_be_taken_in_this(made, tmp_path, section, change, told):
    config = made.write(tmp_path)
    run_work(RunDir(config.run_dir), Work("compose", settings_of(config)), {}, lambda: Outcome((), {}))
    other = config.model_copy(update={section: getattr(config, section).model_copy(update=change)})
    with pytest.raises(InputError, match=told):
        identify(other)
    identify(config)
    with pytest.raises(InputError, match=told):
        identify(other)


@pytest.mark.parametrize("method", ["routing", "random_layer_matched"])
def test_no_safe_prompt_to_compare_with(tmp_path, method):
    made = invent(LAYOUT, goals=8)
    made.places = [place for place in made.places if place[1] == "unsafe"]
    with pytest.raises(InputError, match=r"batches.safe_ratio: no safe prompt stands in the batches"):
        identify(made.write(tmp_path, method=method, matches="routing"))


def test_control_without_benign_prompts(tmp_path):
    made = invent(LAYOUT, goals=8, harmless=1)
    made.places = [place for place in made.places if place[1] != "benign"]
    with pytest.raises(InputError, match="needs benign prompts"):
        identify(made.write(tmp_path, score="risk_diff_control"))


def test_counts_of_another_layout(made, tmp_path):
    config = made.write(tmp_path)
    run = RunDir(config.run_dir)
    stored = json.loads(run.read_bytes("manifests/capture.json"))
    stored["summary"]["layout"] = "another"
    run.write_json("manifests/capture.json", stored)
    with pytest.raises(InputError, match="another layout"):
        identify(config)


def test_it_needs_no_ray():
    code = "import sys, moe_safety.identify.identify; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
