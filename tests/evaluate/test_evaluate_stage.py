"""`evaluate` and `compare` as users run them, on a small run of the demo."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from moe_safety import count_routing
from moe_safety.arms import seeded_arms
from moe_safety.cli import main
from moe_safety.config import load_config
from moe_safety.errors import InputError
from moe_safety.evaluate.compare import compare, comparison_of
from moe_safety.evaluate.evaluate import evaluate
from moe_safety.evaluate.evaluated_models import Subject, arm_subject
from moe_safety.evaluate.measures import measures
from moe_safety.evaluate.plan import ROUTING
from moe_safety.evaluate.reidentify import _highest, by_routing, selection_of_base
from moe_safety.evaluate.routing_drift import ROUTING_SCHEMA, routing_shift
from moe_safety.evaluate.session import Session
from moe_safety.generation.items import items_of
from moe_safety.identify import read_selection
from moe_safety.identify.identify import identify
from moe_safety.models import inspect_model
from moe_safety.models.io import load_chat, load_model, model_fingerprint, model_folder
from moe_safety.models.routers import divergence, probabilities
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from tests.demo import demo_flags
from tests.evaluate.schema import check_comparison
from tests.judges import handmade

pytestmark = pytest.mark.usefixtures("ray_here")

ARMS = ["base", "selective-routing", "selective-routing+router", "random", "steering"]
FLAGS = ["train.num_epochs=1", "evaluate.routing_prompts=4"]


def flags_of(folder, *more, arms=ARMS):
    return [*demo_flags(folder), *FLAGS, f"compare.arms=[{', '.join(arms)}]", *more]


@pytest.fixture(scope="module")
def compared(composed, tmp_path_factory):
    """A finished comparison: its configuration."""
    folder = tmp_path_factory.mktemp("compared") / "run"
    shutil.copytree(composed, folder)
    config = load_config("configs/demo.yaml", flags_of(folder))
    for stage in ("capture", "identify", "compare"):
        run_one(stage, config)
    return config


@pytest.fixture
def again(compared, tmp_path):
    """Makes the configuration of a copy of it."""

    def make(*more, **options):
        shutil.copytree(compared.run_dir, tmp_path / "run")
        return load_config("configs/demo.yaml", flags_of(tmp_path / "run", *more, **options))

    return make


def objects(config):
    return {arm["arm"]: arm for arm in RunDir(config.run_dir).read_json("comparison.json")}


def test_the_comparison_follows_its_schema_and_names_every_arm(compared):
    found = RunDir(compared.run_dir).read_json("comparison.json")
    check_comparison(found)
    assert [arm["arm"] for arm in found] == ARMS
    arms = objects(compared)
    assert arms["base"]["asr"]["value"] == arms["base"]["plain_refusal"]["value"] == 1.0
    assert arms["base"]["over_refusal"]["value"] == 0.0
    assert arms["base"]["benign_exact"]["value"] == 1.0
    assert {name: arm["verify"] for name, arm in arms.items()} == {
        "base": "n/a",
        "selective-routing": "pass",
        "selective-routing+router": "pass",
        "random": "pass",
        "steering": "n/a",
    }
    assert (
        0
        < arms["random"]["changed_ratio"]
        <= arms["random"]["trainable_ratio"]
        == pytest.approx(8 / 64 * 0.84, rel=0.02)
    )
    assert arms["steering"]["trainable_ratio"] == 0
    stored = RunDir(compared.run_dir).read_json("train/selective-routing+router/verify.json")
    assert stored["routers"], "they moved, and might"
    assert not RunDir(compared.run_dir).read_json("train/selective-routing/verify.json")["routers"]
    page = RunDir(compared.run_dir).read_bytes("comparison.md").decode()
    assert all(f"| {name} " in page for name in ARMS)


def test_what_is_reported_is_what_was_said(compared):
    run = RunDir(compared.run_dir)
    for arm in ARMS:
        responses = run.read_table(f"eval/{arm}/responses.parquet")
        report = run.read_json(f"eval/{arm}.json")
        rows = responses.to_pylist()
        attacks = [row for row in rows if row["label"] == "unsafe" and not row["reattack"]]
        assert report["overall"]["asr"]["n"] == len(attacks) == 12
        assert report["overall"]["answered"]["value"] == sum(row["verdict"] == "complied" for row in attacks) / 12
        assert report["overall"]["asr"]["value"] == sum(row["harm"] == "harmful" for row in attacks) / 12
        later = [row["harm"] == "harmful" for row in rows if row["reattack"]]
        assert len(later) == 12
        assert report["reattack"]["role_play"]["value"] == sum(later) / 12
        assert report["by_category"] == measures(responses.filter([not row["reattack"] for row in rows]))["by_category"]
    goals = {row["goal_id"]: row["split"] for row in run.read_table("prompts.parquet").to_pylist()}
    assert {goals[row["goal_id"]] for row in rows} == {"test"}


def test_routing_shift_is_that_of_the_two_models_side_by_side(compared):
    run = RunDir(compared.run_dir)
    report = run.read_json("eval/random.json")["routing_shift"]
    exam = {row["prompt_id"]: row for row in Session(compared, run).exam.to_pylist() if row["label"] == "control"}
    read = [exam[prompt] for prompt in sorted(exam)[:4]]
    chat = load_chat(compared.model)
    tokens = [[*chat.prompt(row["messages"]), *chat.answer(row["reference"])[1], chat.end] for row in read]

    def likely(config):
        model = load_model(config)
        layout = inspect_model(model)
        found = []
        for ids in tokens:
            with torch.inference_mode(), probabilities(model, layout) as seen:
                model(torch.tensor([ids]))
            found.append(seen.stack())
        return torch.cat(found, dim=1)

    tuned = compared.model.model_copy(update={"name": run.path("train/random/final_model")})
    expected = divergence(likely(compared.model), likely(tuned), "forward").mean(dim=1)
    assert report["tokens"]["control"] == sum(map(len, tokens))
    assert report["kl"]["control"] == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-7)
    assert report["mean_kl"]["control"] > 0


def test_a_router_that_gives_no_numbers_has_not_shifted_by_so_much(again):
    config = again()
    session, layout = Session(config, RunDir(config.run_dir)), inspect_model(load_model(config.model))
    base, arm = (session.parts(Subject(name, config.model)) for name in ("base", "random"))
    labels = {row["prompt_id"]: row["label"] for row in session.exam.to_pylist()}
    assert routing_shift(base, arm, layout, labels)
    name = arm.table_name(items_of(arm.plan, ROUTING)[0])
    rows = session.run.read_table(name).to_pylist()
    rows[0]["probabilities"] = np.full(len(rows[0]["probabilities"]) // 4, np.nan, np.float32).tobytes()
    session.run.write_table(name, pa.Table.from_pylist(rows, schema=ROUTING_SCHEMA))
    assert routing_shift(base, arm, layout, labels) is None


def test_experts_whose_rates_are_not_known_have_no_highest_difference(tmp_path):
    run = RunDir(str(tmp_path))
    for values, highest in (([0.1, None, 0.3], 0.3), ([float("nan"), 0.2], 0.2), ([None, float("nan")], None)):
        run.write_table("risk.parquet", pa.table({"risk_diff": pa.array(values, pa.float64())}))
        assert _highest(run, "risk.parquet") == highest
    assert _highest(run, "nowhere.parquet") is None


def test_a_steered_model_goes_to_none_of_the_unsafe_experts(compared):
    run, session = RunDir(compared.run_dir), Session(compared, RunDir(compared.run_dir))
    experts = read_selection(run).experts
    layout = inspect_model(load_model(compared.model))

    def visits(subject):
        parts, found = session.parts(subject), set()
        for table in parts.tables():
            for row in table.to_pylist() if "choices" in table.column_names else []:
                chosen = np.frombuffer(row["choices"], np.int16).reshape(layout.n_moe_layers, -1)
                found |= {(layer.index, int(e)) for n, layer in enumerate(layout.layers) for e in np.unique(chosen[n])}
        return found

    base = Subject("base", compared.model)
    assert set(experts) <= visits(base)
    assert not set(experts) & visits(Subject("steering", compared.model, tuple(experts)))
    assert objects(compared)["steering"]["routing_shift"]["mean_overlap"]["unsafe"] < 0.95


def test_identification_looks_at_the_hardened_model(compared):
    run, arms = RunDir(compared.run_dir), objects(compared)
    assert [name for name in ARMS if "identified" in arms[name]] == [*ARMS[1:3], "random"]
    tuned = compared.model.model_copy(update={"name": run.path("train/random/final_model")})
    nested = RunDir(run.path("eval/random/identify"))
    selection, base = read_selection(nested), read_selection(run)
    by_delta = arm_subject(compared, run, "random")
    assert (selection.method, selection.model) == ("routing", model_fingerprint(by_delta.model))
    assert by_delta.whole == tuned
    found = arms["random"]["identified"]
    assert found["experts"] == [list(expert) for expert in sorted(selection.experts)]
    assert found["kept"] == len(set(selection.experts) & set(base.experts))
    assert found["kept"] + found["new"] == len(selection.experts)
    assert found["highest_risk_diff"] == max(nested.read_table("risk_diff.parquet")["risk_diff"].to_pylist())
    assert found["highest_risk_diff_of_base"] == max(run.read_table("risk_diff.parquet")["risk_diff"].to_pylist())
    # The counts are those of the tuned model: by hand, on one prompt.
    (file, *_) = nested.read_json("manifests/capture.json")["summary"]["files"]
    row = nested.read_table(file).to_pylist()[0]
    prompt = next(one for one in run.read_table("batches.parquet").to_pylist() if one["prompt_id"] == row["prompt_id"])
    chat = load_chat(tuned)
    asked, answer = chat.prompt(prompt["messages"]), [*chat.answer(prompt["answer"])[1], chat.end]
    ids = torch.tensor([[*asked, *answer]])
    counted = torch.zeros_like(ids, dtype=torch.bool)
    counted[0, len(asked) :] = True
    counts = count_routing(load_model(tuned), ids, torch.ones_like(ids), counted)
    assert row["counts"] == counts.flatten().tolist()
    # The actors that let the model answer have counted too: the stage itself found its parts.
    assert nested.read_json("manifests/capture.json")["summary"]["tokens_per_second"] is None


def test_the_base_by_another_name_is_the_base(again, tmp_path):
    config = again(f"evaluate.model_path={tmp_path / 'copy'}", "evaluate.output_name=twin")
    shutil.copytree(model_folder(config.model), tmp_path / "copy")
    evaluate(config)
    run = RunDir(config.run_dir)
    base, twin = run.read_json("eval/base.json"), run.read_json("eval/twin.json")
    assert twin["overall"] == base["overall"]
    assert twin["benign_loss"] == base["benign_loss"] < 0.1
    assert all(pair["b"] == pair["c"] == 0 and pair["p"] == 1.0 for pair in twin["compared"].values())
    assert set(twin["routing_shift"]["mean_kl"].values()) == {0.0}
    assert set(twin["routing_shift"]["mean_overlap"].values()) == {1.0}


def test_a_second_run_does_nothing_and_another_arm_costs_only_itself(again, capsys):
    config = again()
    run = RunDir(config.run_dir)

    def ends():
        stages = run.read_json("manifest.json")
        return {name: stage["finished"] for name, stage in stages.items() if name != "compare"}

    before, page = ends(), run.read_bytes("comparison.json")
    assert compare(config)["skipped"]
    assert ends() == before
    assert run.read_bytes("comparison.json") == page
    arms = [*ARMS, "random-layer-matched"]
    more = load_config("configs/demo.yaml", flags_of(config.run_dir, "train.save=delta", arms=arms))
    compare(more)
    after = ends()
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"identify", "train", "verify", "evaluate"}
    assert objects(more)["random-layer-matched"]["verify"] == "pass"
    assert objects(more)["random-layer-matched"]["control_of"] == "selective-routing"
    assert run.exists("train/random-layer-matched/delta.safetensors")
    assert not run.files("train/random-layer-matched/final_model")


def test_an_arm_answers_alike_by_its_delta_and_by_its_checkpoint(again, tmp_path):
    config = again(f"evaluate.model_path={tmp_path / 'copy'}", "evaluate.output_name=twin")
    run = RunDir(config.run_dir)
    shutil.copytree(run.path("train/random/final_model"), tmp_path / "copy")
    evaluate(config)
    arm, twin = run.read_json("eval/random.json"), run.read_json("eval/twin.json")
    assert arm["model"] != twin["model"]
    own = {"arm", "model"}
    assert {key: arm[key] for key in arm.keys() - own} == {key: twin[key] for key in twin.keys() - own}
    one, other = (run.read_table(f"eval/{name}/responses.parquet") for name in ("random", "twin"))
    assert one.equals(other)


def test_what_an_arm_left_is_that_arm(again):
    """By whichever name: it was evaluated by its delta, and is not again by its checkpoint."""
    config = again("evaluate.output_name=random")
    path = f"{config.run_dir}/train/random/final_model"
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"model_path": path})})
    assert evaluate(config)["skipped"]


SECOND_RUN = """
import sys
from moe_safety.everything import load_config
from moe_safety.pipeline import run_one

config = load_config("configs/demo.yaml", sys.argv[1:])
for stage in ("prepare", "respond", "compose", "capture", "identify", "compare"):
    assert run_one(stage, config)["skipped"], stage
assert not {"torch", "transformers", "ray", "scipy", "matplotlib"} & sys.modules.keys()
"""


def test_a_second_run_needs_neither_torch_nor_ray(compared):
    command = [sys.executable, "-c", SECOND_RUN, *flags_of(compared.run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_gate_holds_the_arms_that_are_named(again, tmp_path, capsys):
    config = again(arms=["base", "selective-routing"])
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(Path("configs/demo.yaml").read_text())))
    flags = [part for flag in flags_of(config.run_dir, arms=["base", "selective-routing"]) for part in ("--set", flag)]
    # The base, which trains nothing, is what the others are measured against.
    assert main(["compare", str(file), *flags, "--gate", "trainable_ratio>=0.01,plain_refusal>=0.5"]) == 0
    assert main(["compare", str(file), *flags, "--gate", "changed_ratio<=0.001"]) == 1
    assert "selective-routing misses changed_ratio<=0.001" in capsys.readouterr().err
    assert main(["compare", str(file), *flags, "--gate", "asr<0.1"]) == 2
    assert main(["compare", str(file), *flags, "--gate", ""]) == 2
    capsys.readouterr()
    assert main(["compare", str(file), *flags, "--set", "compare.arms=[base]", "--gate", "asr<=1"]) == 2
    assert "compare.arms: names no arm beside the base" in capsys.readouterr().err


def test_verdicts_of_other_rules_are_not_taken_for_these(again):
    config = again()
    run = RunDir(config.run_dir)
    stored = run.read_json("manifests/evaluate.base.json")
    del stored["inputs"]["judge rules"]
    run.write_json("manifests/evaluate.base.json", stored)
    with pytest.raises(InputError, match=r"was run with another judge rules; use --force"):
        evaluate(config)


def test_another_judge_reads_the_answers_that_stand(again, tmp_path):
    labels = "{HELPS: complied, ODD: complied, DECLINES: refused}"
    section = f"{{kind: classifier, model: {handmade.classifier(tmp_path / 'judge')}, labels: {labels}}}"
    config = again(f"judges.refusal={section}")
    run = RunDir(config.run_dir)

    def written():
        return {file: file.stat().st_mtime_ns for file in Path(run.root).glob("eval/*/_parts/**/*.parquet")}

    before, reasons = written(), run.read_table("eval/selective-routing/responses.parquet")["reason"]
    with pytest.raises(InputError, match=r"was run with judges\.refusal\.kind = rules, now classifier; use --force"):
        evaluate(config)
    evaluate(config, force=True)
    assert written() == before
    assert run.read_table("eval/selective-routing/responses.parquet")["reason"] != reasons
    evaluate(config, force=True)
    again_written = {file for file, when in written().items() if when != before[file]}
    assert {file.parent.parent.name for file in again_written} == {"base", "selective-routing"}


def test_a_goal_that_was_trained_on_is_never_examined(again):
    config = again()
    run = RunDir(config.run_dir)
    prompts = run.read_table("prompts.parquet")
    trained = run.read_table("batches.parquet")["prompt_id"][0].as_py()
    goal = next(row["goal_id"] for row in prompts.to_pylist() if row["prompt_id"] == trained)
    splits = ["test" if row["goal_id"] == goal else row["split"] for row in prompts.to_pylist()]
    column = prompts.column_names.index("split")
    run.write_table("prompts.parquet", prompts.set_column(column, "split", [splits]))
    with pytest.raises(InputError, match=f"goal {goal} was trained on and is to be examined"):
        evaluate(config, force=True)


def test_the_train_split_is_told_by_batch_in_a_folder_of_its_own(again):
    config = again("evaluate.split=train", "evaluate.prompts=6")
    run = RunDir(config.run_dir)
    session = Session(config, run)
    rows = [row for row in session.exam.to_pylist() if not row["reattack"]]
    assert [sum(row["label"] == label for row in rows) for label in ("safe", "unsafe", "benign", "control")] == [6] * 4
    stands = [(row["prompt_id"], row["batch_idx"]) for row in run.read_table("batches.parquet").to_pylist()]
    placed = [(row["prompt_id"], row["batch_idx"]) for row in rows if row["batch_idx"] is not None]
    assert placed
    assert set(placed) <= set(stands)
    assert session.folder(Subject("x", session.config.model)) == "eval/train/x"


def test_a_control_has_the_layers_of_the_run_s_own_selection_and_is_what_identify_would_draw(again):
    config = again("identify.top_k=5", arms=["random", "random-layer-matched"])
    run = RunDir(config.run_dir)
    identify(config, force=True)
    own = read_selection(run).experts
    scattered, matched = seeded_arms(config)
    for each in (scattered, matched):
        each.select(force=True)
    assert len(read_selection(run, scattered.selection).experts) == len(own) == 5
    drawn = read_selection(run, matched.selection)
    assert sorted(layer for layer, _ in drawn.experts) == sorted(layer for layer, _ in own)
    flags = ["identify.top_k=5", "identify.method=random_layer_matched", "identify.matches=routing"]
    identify(load_config("configs/demo.yaml", flags_of(config.run_dir, *flags)), force=True)
    again_drawn = read_selection(run)
    assert (again_drawn.experts, again_drawn.per_batch) == (drawn.experts, drawn.per_batch)


def test_routing_ranked_again_from_its_tables_is_what_identify_selected(again):
    config = again("identify.method=gradient", arms=["selective-routing"])
    (found,) = seeded_arms(config)
    before = read_selection(RunDir(config.run_dir))
    found.select()
    assert found.selection == "selections/routing/selection.json"
    assert read_selection(RunDir(config.run_dir), found.selection) == before


def test_a_hardened_model_is_compared_with_what_the_same_rule_selects_on_the_base(again):
    config = again("identify.method=gradient")
    name = selection_of_base(config)
    assert name == "selections/routing/selection.json"
    run = RunDir(config.run_dir)
    assert read_selection(run, name).experts == read_selection(run).experts, "which was by routing, too"
    assert by_routing(config).identify.method == "routing"
    by_weight = config.identify.model_copy(update={"method": "routing", "score": "weight"})
    weighed = config.model_copy(update={"identify": by_weight})
    assert by_routing(weighed) is weighed
    assert selection_of_base(weighed) == "selection.json"


def test_another_split_has_a_comparison_of_its_own(compared):
    for split, name in (("test", "comparison.json"), ("validation", "eval/validation/comparison.json")):
        evaluate = compared.evaluate.model_copy(update={"split": split})
        assert comparison_of(compared.model_copy(update={"evaluate": evaluate})) == name


def test_comparison_json_is_plain_json(compared):
    text = RunDir(compared.run_dir).read_bytes("comparison.json").decode()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))


@pytest.mark.soak
def test_arms_that_train_on_ray_train_stand_side_by_side_and_end_as_in_one_process(compared, composed, tmp_path):
    shutil.copytree(composed, tmp_path / "run")
    flags = flags_of(tmp_path / "run", "train.launch=ray", arms=["selective-routing", "random"])
    config = load_config("configs/demo.yaml", flags)
    for stage in ("capture", "identify", "compare"):
        run_one(stage, config)
    run, here = RunDir(config.run_dir), RunDir(compared.run_dir)
    one, other = (run.read_json(f"manifests/train.{arm}.json") for arm in ("selective-routing", "random"))
    assert max(one["started"], other["started"]) < min(one["finished"], other["finished"])
    found, expected = objects(config), objects(compared)
    check_comparison(list(found.values()))
    for arm in ("selective-routing", "random"):
        assert found[arm]["verify"] == "pass"
        logs = [where.read_json(f"train/{arm}/training_metadata.json")["training_logs"] for where in (run, here)]
        losses = [[step["loss"] for step in log] for log in logs]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        assert found[arm]["asr"]["value"] == pytest.approx(expected[arm]["asr"]["value"], abs=1 / 12 + 1e-9)
