"""What the configuration says reaches the steps, and what a run leaves tells it as it was."""

import json
import shutil
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event

from moe_safety.arms import arm_of
from moe_safety.config import load_config
from moe_safety.errors import InputError, RunError
from moe_safety.models.demo import demo_folder
from moe_safety.models.io import check_loadable, skeleton_of
from moe_safety.pipeline import BATCHES
from moe_safety.rundir import RunDir
from moe_safety.train import rounds
from moe_safety.train.phases.experts import ExpertPhase
from moe_safety.train.step_log import Watcher
from moe_safety.train.train import plan_rounds, train
from tests.checkpoints.pairs import rewrite
from tests.train.byhand import configured

EXPERTS = [(0, 1), (2, 3), (3, 8)]
"""The first is in batch 0's mask alone, the second in batch 1's, the last in both."""
ARM = "train/selective-routing"
KEYS = {
    "training_mode",
    "note",
    "total_unique_unsafe_experts",
    "per_batch_unsafe_expert_counts",
    "batch_unsafe_experts_summary",
    "model_name",
    "batch_size",
    "safe_ratio",
    "num_batches",
    "trainable_params",
    "trainable_ratio",
    "identified_experts_per_round",
    "training_logs",
    "seconds_per_step",
    "tokens_per_second",
    "peak_memory_bytes",
}


@pytest.fixture
def run(tmp_path):
    """Trains with these flags in a fresh folder; gives the run directory and the log."""

    def make(*flags, name="run", arm=ARM):
        config = configured(tmp_path / name, EXPERTS, "train.shuffle_batches=false", *flags)
        train(config)
        run = RunDir(config.run_dir)
        return run, run.read_json(f"{arm}/training_metadata.json")["training_logs"]

    return make


def weights(run, arm=ARM):
    return load_file(run.path(f"{arm}/final_model/model.safetensors"))


def expert(state, pair):
    """Of every tensor of one expert, its numbers."""
    layer, number = pair
    found = [tensor for name, tensor in state.items() if f"layers.{layer}.mlp.experts.{number}." in name]
    assert len(found) == 3
    return torch.cat([tensor.flatten() for tensor in found])


@pytest.fixture(scope="module")
def base():
    return load_file(demo_folder() / "model.safetensors")


def test_rates_of_both_phases(run):
    flags = ["train.num_epochs=4", "train.learning_rate=1e-3", "train.schedule=linear", "train.warmup_ratio=0.25"]
    router = ["train.router.enabled=true", "train.router.lr=1e-5", "train.router.num_epochs=2"]
    _, log = run(*flags, *router, arm=f"{ARM}+router")
    rates = {phase: [row["learning_rate"] for row in log if row["phase"] == phase] for phase in ("experts", "router")}
    warm, down = [0.5e-3, 1e-3], [1e-3 * (1 - done / 6) for done in range(6)]
    assert rates["experts"] == pytest.approx([*warm, *down])
    assert rates["router"] == pytest.approx([1e-5, 1e-5, 1e-5 * 2 / 3, 1e-5 / 3])


def test_rate_clipping_and_decay_are_those_of_the_settings(run, base):
    def moved(**settings):
        flags = [f"train.{name}={value}" for name, value in settings.items()]
        folder = "-".join(map(str, settings.values()))
        left, _ = run("train.num_epochs=1", "train.schedule=constant", *flags, name=folder)
        # In batch 0's mask alone: a single step has moved it.
        return expert(weights(left), EXPERTS[0]) - expert(base, EXPERTS[0])

    plain = moved(clip="null", learning_rate=1e-3)
    assert float(plain.abs().max()) == pytest.approx(1e-3, rel=1e-2), "Adam's first step is the rate"
    slow = moved(clip="null", learning_rate=1e-4)
    torch.testing.assert_close(slow, plain / 10, rtol=1e-2, atol=1e-6)
    warming = moved(clip="null", learning_rate=1e-3, warmup_ratio=0.9)
    torch.testing.assert_close(warming, plain / 2, rtol=1e-2, atol=1e-6)
    decayed = moved(clip="null", learning_rate=1e-3, weight_decay=0.5)
    felt = plain != 0
    torch.testing.assert_close((decayed - plain)[felt], -0.5e-3 * expert(base, EXPERTS[0])[felt], rtol=1e-2, atol=1e-6)
    assert not (decayed - plain)[~felt].any()
    # So small a gradient vanishes beside Adam's epsilon.
    assert float(moved(clip=1e-12, learning_rate=1e-3).abs().max()) < 1e-5


def test_the_baseline_moves_also_what_has_no_gradient(run, base):
    """It is ordinary AdamW, which decays every weight; tokens that never stand in a batch have no gradient."""
    left, _ = run("train.mode=baseline", "train.weight_decay=0.5", arm="train/baseline")
    name = "model.embed_tokens.weight"
    assert ((weights(left, "train/baseline")[name] != base[name]) | (base[name] == 0)).all()


@pytest.mark.parametrize("given", ["{'0': 0.25}", "{'kind 0': 0.25}"])
def test_weights_of_batches(run, given):
    _, plain = run("train.num_epochs=1")
    _, weighed = run("train.num_epochs=1", f"train.batch_weights={given}", name="weighed")
    assert weighed[0]["loss"] == pytest.approx(plain[0]["loss"] / 4)
    assert [row["batch_idx"] for row in plain] == [[0], [1]]
    with pytest.raises(InputError, match=r"train.batch_weights: 'kind 7' is neither a batch nor the category of one"):
        run("train.batch_weights={'kind 7': 2}", name="wrong")


def test_what_a_run_leaves(run, base, capsys):
    left, log = run()
    described = left.read_json(f"{ARM}/training_metadata.json")
    assert described.keys() >= KEYS
    assert [(row["step"], row["batch_idx"]) for row in log] == [(0, [0]), (1, [1]), (2, [0]), (3, [1])]
    assert all(row.keys() >= {"loss", "active_experts", "learning_rate"} for row in log)
    assert described["peak_memory_bytes"] > described["total_params"] * 4
    tuned, total = weights(left), sum(tensor.numel() for tensor in base.values())
    changed = [pair for pair in EXPERTS if (expert(tuned, pair) != expert(base, pair)).any()]
    assert changed == EXPERTS
    share = sum(expert(base, pair).numel() for pair in changed) / total
    assert described["trainable_ratio"] == share
    assert f"({share:.2%})" in capsys.readouterr().out
    spent = sum(row["seconds"] for row in log)
    assert described["tokens_per_second"] == pytest.approx(sum(row["tokens"] for row in log) / spent)
    (events,) = left.files(f"{ARM}/round_1/experts/tensorboard")
    curve = [value.simple_value for value in curves(left.read_bytes(events)) if value.tag == "experts/loss"]
    assert curve == pytest.approx([row["loss"] for row in log])


def curves(data):
    """The points of a TensorBoard file: records of a length, its checksum, that many bytes, their checksum."""
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        yield from Event.FromString(data[12 : 12 + size]).summary.value
        data = data[16 + size :]


def test_a_batch_that_does_not_fit_is_named(run, monkeypatch):
    def too_much(model, rows):
        torch.empty(1 << 50)

    monkeypatch.setattr("moe_safety.models.text.answer_losses.answer_losses", too_much)
    with pytest.raises(RunError, match=r"^batch 0, of up to 3 rows, does not fit the memory; lower train.micro_batch"):
        run()


def test_a_router_phase_needs_safe_prompts(tmp_path):
    config = configured(tmp_path / "run", EXPERTS, "train.router.enabled=true")
    run = RunDir(config.run_dir)
    rows = run.read_table(BATCHES)
    labels = ["unsafe" if label == "safe" else label for label in rows["label"].to_pylist()]
    run.write_table(BATCHES, rows.set_column(rows.schema.get_field_index("label"), "label", [labels]))
    with pytest.raises(InputError, match=r"batches.safe_ratio: batch 0 has no safe prompt"):
        train(config)


class Killed(BaseException):
    """What a signal would do to this process."""


def test_a_checkpoint_of_another_base_is_not_gone_on_from(tmp_path, monkeypatch):
    base = tmp_path / "base"
    shutil.copytree(demo_folder(), base)
    flags = [f"model.name={base}", "train.mode=baseline", "train.checkpoint_every=1", "train.num_epochs=3"]
    config = configured(tmp_path / "run", EXPERTS, *flags)
    real = Watcher.__call__

    def stopping(self, row):
        real(self, row)
        if row["step"] == 3:
            raise Killed

    with monkeypatch.context() as stopped:
        stopped.setattr(Watcher, "__call__", stopping)
        with pytest.raises(Killed):
            train(config)
    rewrite(base, "lm_head.weight", lambda tensor: tensor * 1.5)
    with pytest.raises(InputError, match="was run with another model; use --force"):
        train(config)
    train(config, force=True)
    fresh = configured(tmp_path / "fresh", EXPERTS, *flags)
    train(fresh)
    one, two = (weights(RunDir(each.run_dir), "train/baseline") for each in (config, fresh))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_decides_the_steps_decides_which_checkpoints_count(tmp_path, monkeypatch):
    base = tmp_path / "base"
    shutil.copytree(demo_folder(), base)

    def identity(*flags):
        config = configured(tmp_path / "run", EXPERTS, f"model.name={base}", "train.mode=baseline", *flags)
        skeleton, layout = skeleton_of(config.model), check_loadable(config.model)
        where = ("train/baseline", "selection.json", skeleton)
        plan = plan_rounds(arm_of(config), config, RunDir(config.run_dir), layout, *where)
        tasks = []
        with monkeypatch.context() as watched:
            watched.setattr(rounds, "run_phase", tasks.append)
            watched.setattr(rounds, "_left_by", lambda plan, task: plan.config.model)
            list(rounds.run_rounds(plan))
        return tasks[0].identity

    first = identity()
    assert identity("train.checkpoint_every=7", "train.max_failures=0") == first, "not how often, nor how patiently"
    changes = ["seed=7", "train.learning_rate=0.1", "train.batch_weights={'0': 2}", "train.num_workers=2"]
    others = [identity("train.launch=ray", change) for change in changes]
    rewrite(base, "lm_head.weight", lambda tensor: tensor * 1.5)
    others.append(identity())
    assert len({first, *others}) == 1 + len(changes) + 1


def test_a_base_that_changed_under_its_selection_is_refused(tmp_path):
    base = tmp_path / "base"
    shutil.copytree(demo_folder(), base)
    config = configured(tmp_path / "run", EXPERTS, f"model.name={base}")
    file = base / "generation_config.json"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(InputError, match="was made for another model; run `identify` again"):
        train(config)


def test_the_earlier_gradient_scripts_configuration_learns_attacks_alone(tmp_path, monkeypatch):
    labels = load_config("configs/gradient_rounds.yaml").train.labels
    learned, groups = [], ExpertPhase._groups

    def watched(self, rows):
        learned.extend(row.label for row in rows)
        return groups(self, rows)

    monkeypatch.setattr(ExpertPhase, "_groups", watched)
    train(configured(tmp_path / "run", EXPERTS, f"train.labels={labels}", "train.num_epochs=1"))
    assert set(learned) == {"unsafe"}, "of batches of a safe, an unsafe and a benign row"


@pytest.mark.parametrize("masking", ["gradient", "union"])
def test_the_masks_that_are_left_are_what_each_batch_might_move(run, masking):
    made, log = run(f"train.masking={masking}")
    by_batch = np.load(made.path(f"{ARM}/batch_expert_masks.npy"))
    expected = [3, 3] if masking == "union" else [2, 2]
    assert by_batch.sum(axis=(1, 2)).tolist() == expected
    assert {row["batch_idx"][0]: row["active_experts"][0] for row in log} == dict(enumerate(expected))
    assert np.load(made.path(f"{ARM}/expert_mask.npy")).sum() == 3


def test_the_type_of_the_weights_is_part_of_the_run(run):
    run()
    with pytest.raises(InputError, match=r"was run with model\.dtype = auto, now bfloat16; use --force"):
        run("model.dtype=bfloat16")


def test_a_base_that_is_stored_in_another_type_than_it_says_is_trained(tmp_path, capsys):
    base = shutil.copytree(demo_folder(), tmp_path / "base")
    told = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(told | {"dtype": "bfloat16"}))
    config = configured(tmp_path / "run", [(0, 1), (2, 3)], f"model.name={base}")
    manifest = train(config)
    assert "train/selective-routing/delta.safetensors" not in manifest["outputs"]
    assert "no delta: the base is stored in other types than the model" in capsys.readouterr().out


def test_counted_tokens_decide_the_router_phase(run):
    run("train.router.enabled=true", arm=f"{ARM}+router")
    with pytest.raises(InputError, match="was run with counted = response, now all; use --force"):
        run("train.router.enabled=true", "capture.tokens=all", arm=f"{ARM}+router")
