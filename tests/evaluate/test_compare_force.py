"""What `compare` trains, and what it refuses before it trains."""

import shutil

import pyarrow.compute as pc
import pytest

from moe_safety.errors import InputError
from moe_safety.evaluate.compare import compare
from moe_safety.evaluate.evaluate import evaluate_all
from moe_safety.evaluate.gate import Limit, misses
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from tests.demo import demo
from tests.evaluate.schema import check_comparison
from tests.judges import handmade

pytestmark = pytest.mark.usefixtures("ray_here")

FLAGS = ["train.num_epochs=1", "evaluate.routing_prompts=0", "evaluate.reidentify=false"]


def configuration(folder, *more, arms="[base, random, selective-routing]"):
    return demo(folder, *FLAGS, f"compare.arms={arms}", *more)


@pytest.fixture(scope="module")
def once(composed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("once") / "run"
    shutil.copytree(composed, folder)
    for stage in ("capture", "identify", "compare"):
        run_one(stage, configuration(folder))
    return folder


@pytest.fixture
def again(once, tmp_path):
    shutil.copytree(once, tmp_path / "run")
    return tmp_path / "run"


def trained(folder):
    names = [name for name in RunDir(str(folder)).names("manifests", ".json") if "/train." in name]
    return {name: RunDir(str(folder)).read_json(name)["started"] for name in names}


def judged_by_a_model(tmp_path):
    labels = "{HELPS: complied, ODD: complied, DECLINES: refused}"
    section = f"{{kind: classifier, model: {handmade.classifier(tmp_path / 'judge')}, labels: {labels}}}"
    return f"judges.refusal={section}"


def test_another_judge_is_refused_before_an_arm_is_trained(again, tmp_path):
    before, arms = trained(again), "[base, random, selective-routing, random-layer-matched]"
    with pytest.raises(InputError, match=r"was run with judges\.refusal\.kind = rules, now classifier"):
        compare(configuration(again, judged_by_a_model(tmp_path), arms=arms))
    assert trained(again) == before


def test_an_arm_that_was_evaluated_otherwise_is_refused_before_another_is_trained(again):
    run = RunDir(str(again))
    manifest = run.read_json("manifests/evaluate.random.json")
    run.write_json("manifests/evaluate.random.json", manifest | {"settings": manifest["settings"] | {"seed": 7}})
    before = trained(again)
    with pytest.raises(InputError, match=r"`evaluate/random` was run with seed = 7, now 42"):
        compare(configuration(again, arms="[base, random, selective-routing, random-layer-matched]"))
    assert trained(again) == before


def test_force_for_another_judge_trains_nothing_again(again, tmp_path):
    before = trained(again)
    compare(configuration(again, judged_by_a_model(tmp_path)), force=True)
    assert trained(again) == before
    settings = RunDir(str(again)).read_json("manifests/evaluate.random.json")["settings"]
    assert settings["judges"]["refusal"]["kind"] == "classifier"


def test_force_trains_again_what_changed_and_all_where_nothing_did(again):
    run, before = RunDir(str(again)), trained(again)
    manifest = run.read_json("manifests/train.random.json")
    run.write_json("manifests/train.random.json", manifest | {"settings": manifest["settings"] | {"seed": 7}})
    compare(configuration(again), force=True)
    changed = trained(again)
    assert changed.pop("manifests/train.random.json") > before.pop("manifests/train.random.json")
    assert changed == before, "the other arm stands"
    compare(configuration(again), force=True)
    assert all(started > before.get(name, 0) for name, started in trained(again).items())
    assert len(trained(again)) == 2


def test_force_that_was_cut_off_is_taken_up_again(again, tmp_path):
    """The base was judged anew, an arm was not yet: nothing is trained for the rest."""
    before, other = trained(again), configuration(again, judged_by_a_model(tmp_path))
    evaluate_all(other, RunDir(str(again)), [], force=True)
    compare(other, force=True)
    assert trained(again) == before


def test_a_split_without_attacks_is_refused_before_an_arm_is_trained(again):
    run, before = RunDir(str(again)), trained(again)
    prompts = run.read_table("prompts.parquet")
    attacks = pc.and_(pc.equal(prompts["label"], "unsafe"), pc.equal(prompts["split"], "test"))
    run.write_table("prompts.parquet", prompts.filter(pc.invert(attacks)))
    with pytest.raises(InputError, match=r"^data\.test_fraction: no attack is in the test split, so what is trained"):
        compare(configuration(again, "evaluate.reattack=[]"), force=True)
    assert trained(again) == before


def test_the_answers_of_all_seeds_are_pooled_and_the_gate_sees_each(again):
    compare(configuration(again, "compare.seeds=[7]", arms="[base, random]"))
    run = RunDir(str(again))
    found = {one["arm"]: one for one in run.read_json("comparison.json")}
    check_comparison(list(found.values()))
    own, other = (run.read_json(f"eval/{name}.json")["overall"]["asr"] for name in ("random", "random.seed-7"))
    repeats = found["random"]["repeats"]
    assert repeats["seeds"] == [42, 7]
    assert (found["random"]["asr"], [one["asr"] for one in repeats["each"]]) == (own, [own, other])
    pooled = repeats["pooled"]["asr"]
    assert (pooled["n"], pooled["n_goals"]) == (own["n"] + other["n"], own["n_goals"])
    assert pooled["value"] == pytest.approx((own["value"] + other["value"]) / 2)
    assert repeats["worst"]["asr"] == max(own, other, key=lambda rate: rate["value"])
    below = (own["value"] + max(own["value"], other["value"])) / 2 - 1e-9
    assert misses([Limit("asr", "<=", below)], [found["random"]]), "one of them is above"
    assert "random, worst of 2 seeds" in run.read_bytes("comparison.md").decode()


def test_arms_of_another_format_are_refused_and_with_force_made_again(again):
    run, before = RunDir(str(again)), trained(again)
    for name in run.names("manifests", ".json"):
        manifest = run.read_json(name)
        if manifest["stage"].partition("/")[0] in ("train", "evaluate", "compare"):
            run.write_json(name, {key: value for key, value in manifest.items() if key != "format"})
    with pytest.raises(InputError, match="left format 1 where this one reads 2; run it again with --force"):
        compare(configuration(again))
    assert trained(again) == before
    compare(configuration(again), force=True)
    assert not set(trained(again).values()) & set(before.values())
