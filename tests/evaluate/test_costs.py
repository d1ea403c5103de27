"""Arms train on the same batches in the same order; what each of them read for it, and how much of that its experts
had, is told."""

import json

import numpy as np
import pyarrow as pa
import pytest

from moe_safety.arms import ARMS, own_arm, seeded_arms
from moe_safety.batches.files import prompts_digest
from moe_safety.config import ModelConfig, load_config
from moe_safety.evaluate.comparison import arm_object, page
from moe_safety.evaluate.costs import NOTHING, Costs
from moe_safety.models.io import check_loadable
from moe_safety.routing.table import routing_table
from moe_safety.rundir import Outcome, RunDir, Work, run_work
from moe_safety.train.several import train_and_verify
from moe_safety.train.task import Task
from tests.evaluate.schema import check_comparison
from tests.evaluate.test_gate import arm as arm_by_hand
from tests.train.byhand import configured

EXPERTS = [(0, 1), (2, 3), (3, 8)]
TRAINED = [arm.name for arm in ARMS if arm.phases]
OF_AN_ARM = {"mode", "masking", "routing", "router"}
"""What arms may change of `train`: which part trains, and how."""


@pytest.mark.parametrize("seeds", ["[]", "[7]"])
def test_nothing_that_orders_batches_or_counts_steps_hangs_on_the_arm(seeds):
    """One loop trains every phase of all arms: its sampler is made of these settings and the batches alone."""
    asked = load_config("configs/demo.yaml", [f"compare.arms=[{', '.join(TRAINED)}]", f"compare.seeds={seeds}"])
    for arm in seeded_arms(asked):
        ours, theirs = (config.train.model_dump() for config in (arm.config, asked))
        assert {name for name in ours if ours[name] != theirs[name]} <= OF_AN_ARM
        of_routers = {"enabled", "num_epochs"} if arm.arm.phases == ("router",) else {"enabled"}
        assert {name for name in ours["router"] if ours["router"][name] != theirs["router"][name]} <= of_routers
        assert arm.config.batches == asked.batches
        assert arm.config.seed in (asked.seed, *asked.compare.seeds)


@pytest.mark.parametrize("flags", [[], ["train.num_epochs=5"], ["train.router.num_epochs=7"]])
def test_every_arm_takes_as_many_steps_by_default(flags):
    """A router phase that follows is a further one, and has epochs of its own."""
    asked = load_config("configs/olmoe.yaml", [f"compare.arms=[{', '.join(TRAINED)}]", *flags])
    layout = check_loadable(ModelConfig(name="demo"))
    for arm in seeded_arms(asked):
        first, *further = (Task(arm.kind, arm.config, layout, kind, "", "").epochs for kind in arm.arm.phases)
        assert first == asked.train.num_epochs, arm.name
        assert set(further) <= {asked.train.router.num_epochs}


def captured(config, layout):
    """Every prompt sends three quarters of its weight in each layer to expert 1 and the rest to expert 3."""
    run = RunDir(config.run_dir)
    prompts = list(dict.fromkeys(run.read_table("batches.parquet", ["prompt_id"])["prompt_id"].to_pylist()))
    weights = np.zeros((len(prompts), *layout.shape), np.float32)
    weights[:, :, 1], weights[:, :, 3] = 7.5, 2.5
    table = routing_table(layout, prompts, np.full(len(prompts), 10), np.ceil(weights).astype(int), weights)

    def body():
        run.write_table("routing/part.parquet", table)
        return Outcome(("routing/part.parquet",), {"files": ["routing/part.parquet"]})

    run_work(run, Work("capture", {}, others={"prompts": prompts_digest(run)}), {}, body)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Of a few arms their log and their costs, without a capture and with one."""
    folder, names = (
        tmp_path_factory.mktemp("arms") / "run",
        ["selective-causal", "prefix", "dpo", "attention", "router"],
    )
    config = configured(folder, EXPERTS, "identify.method=causal", "train.num_epochs=2")
    run, found = RunDir(config.run_dir), {}
    for name in names:
        arm = own_arm(config.model_copy(update={"train": config.train.model_copy(update={"arm": name})}))
        train_and_verify(arm, force=False)
        metadata = run.read_json(f"train/{name}/training_metadata.json")
        found[name] = arm, metadata, dict(Costs(run).of(arm))
    captured(config, check_loadable(config.model))
    return {name: (metadata, before, Costs(run).of(arm)) for name, (arm, metadata, before) in found.items()}


def test_all_arms_train_on_the_same_batches_in_the_same_order(told):
    orders = {name: [row["batch_idx"] for row in metadata["training_logs"]] for name, (metadata, _, _) in told.items()}
    assert len(orders["selective-causal"]) == 4
    for name, order in orders.items():
        assert order == orders["selective-causal"], name


def test_what_reads_more_of_each_row_says_so(told):
    read = {name: cost["tokens_read"] for name, (_, _, cost) in told.items()}
    assert read["selective-causal"] == read["attention"]
    assert read["prefix"] > 1.3 * read["selective-causal"]
    assert read["dpo"] > 2 * read["selective-causal"]
    for metadata, _, cost in told.values():
        assert cost["steps"] == len(metadata["training_logs"])
        assert cost["training_seconds"] > 0
        assert cost["trained_parameters"] == metadata["trainable_params"]
        assert [sum(row["batch_tokens"]) for row in metadata["training_logs"]] == [
            row["tokens"] for row in metadata["training_logs"]
        ]


def test_the_dose_is_the_share_of_weight_that_goes_to_what_trains(told):
    """Batch 0 trains expert 1 of layer 0, batch 1 expert 3 of layer 2, and both an expert that nothing goes to."""
    metadata, without, cost = told["selective-causal"]
    assert without["dose"] is None
    layers = 4
    shares = {0: 0.75 / layers, 1: 0.25 / layers}
    by_hand = sum(row["tokens"] * shares[row["batch_idx"][0]] for row in metadata["training_logs"])
    assert cost["dose"] == pytest.approx(by_hand)
    for name in ("attention", "router"):
        assert told[name][1]["dose"] == told[name][2]["dose"] == told[name][2]["tokens_read"]


def test_they_stand_in_the_comparison_and_not_in_the_printed_table(told):
    report = {"overall": {name: value for name, value in arm_by_hand("x").items() if isinstance(value, dict)}}
    report |= {"benign_loss": 0.5, "benign_exact": 0.9, "routing_shift": None}
    metadata, _, cost = told["dpo"]
    done = {name: metadata[name] for name in ("trainable_ratio", "seconds_per_step", "peak_memory_bytes")}
    arms = [arm_object("base", report), arm_object("dpo", report, done, {"changed_ratio": 0.1, "verify": "pass"}, cost)]
    check_comparison(json.loads(json.dumps(arms)))
    assert {name: arms[0][name] for name in NOTHING} == NOTHING
    written = page(arms, "test")
    assert "| trained parameters | tokens read |" in written
    assert f"{cost['tokens_read']:,}" in written


def test_an_arm_of_an_earlier_version_does_not_say_what_it_read(told, tmp_path):
    config = configured(tmp_path / "run", EXPERTS, "train.arm=attention")
    row = {"phase": "experts", "batch_idx": [0], "tokens": 5, "seconds": 1.0}
    old = {"training_logs": [row], "router_params": 0, "trainable_params": 3}
    RunDir(config.run_dir).write_json("train/attention/training_metadata.json", old)
    found = Costs(RunDir(config.run_dir)).of(own_arm(config))
    assert (found["tokens_read"], found["dose"], found["steps"]) == (None, None, 1)


def test_rows_that_are_not_learned_have_no_part_in_a_dose(tmp_path):
    config = configured(tmp_path / "run", EXPERTS)
    run, layout = RunDir(config.run_dir), check_loadable(config.model)
    captured(config, layout)
    told = Costs(run)
    assert told._routed
    assert told.reads == ("batches.parquet", "routing/part.parquet")
    masks = np.zeros((2, *layout.shape), bool)
    masks[:, :, 1] = True
    assert told._routed.shares(masks, ["safe", "unsafe", "benign"]) == {0: 0.75, 1: 0.75}
    assert told._routed.shares(masks, []) == {0: 0.0, 1: 0.0}
    batches = run.read_table("batches.parquet")
    at, renamed = batches.schema.get_field_index("prompt_id"), [f"x{n}" for n in range(len(batches))]
    run.write_table("batches.parquet", batches.set_column(at, "prompt_id", pa.array(renamed)))
    assert Costs(run)._routed is None, "counts of other prompts"
