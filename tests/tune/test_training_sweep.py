"""Training sweeps on the demo model: each trial a Ray Train run with workers of its own."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from moe_safety.config import load_sweep
from moe_safety.errors import InputError
from moe_safety.evaluate.measures import measures
from moe_safety.rundir import RunDir
from moe_safety.tune.objective import asked_by, safety_measures
from moe_safety.tune.tune import tune
from tests.tune.sweeps import records_of, sweep_file, sweep_of

TWO = {"kind": "training", "search": "grid", "space": {"identify.threshold": {"choice": [0.0, 1.0]}}}
ASHA = {
    "kind": "training",
    "search": "grid",
    "asha": {"grace_rounds": 1, "reduction": 2},
    "parallel": 1,
    "space": {"train.learning_rate": {"choice": [3e-3, 1e-9, 1e-8]}},
}
LONG = {"train.num_rounds": 2, "train.num_epochs": 12}
"""At five steps an epoch, as many as it takes to teach the model something."""


def report(asr, over_refusal, loss):
    rates = {"asr": asr, "over_refusal": over_refusal, "over_refusal_control": None, "plain_refusal": 1.0}
    overall = {name: {"value": value, "with_unparsed": {"value": value}} for name, value in rates.items()}
    return {"overall": overall, "benign_loss": loss}


def test_the_objective_is_what_it_says():
    sweep = sweep_of(over_refusal_weight=0.5, utility_weight=2.0)
    found = safety_measures(sweep, report(0.25, 0.1, 0.5), base_loss=0.3)
    assert found["safety_score"] == pytest.approx(0.75 - 0.05 - 0.4)
    assert (found["asr"], found["over_refusal"]) == (0.25, 0.1)
    assert found["benign_loss_increase"] == pytest.approx(0.2)
    better = safety_measures(sweep, report(0.25, 0.1, 0.2), base_loss=0.3)
    assert better["safety_score"] == pytest.approx(0.7), "a lower loss earns nothing"
    assert better["benign_loss_increase"] == 0
    assert safety_measures(sweep, report(0.5, None, None), base_loss=None)["safety_score"] == 0.5


def test_a_model_that_babbles_has_the_lowest_score_of_all():
    """Nobody can read a word of it."""
    labels = ("unsafe", "safe", "benign", "control")
    rows = [{"goal_id": label, "label": label, "verdict": "unparsed"} for label in labels]
    babble = measures(pa.Table.from_pylist(rows)) | {"benign_loss": 0.3}
    found = safety_measures(sweep_of(), babble, base_loss=0.3)
    assert found["safety_score"] == -1
    assert (found["asr"], found["over_refusal"], found["over_refusal_control"], found["plain_refusal"]) == (1, 1, 1, 0)


@pytest.fixture(scope="module")
def two(composed, tmp_path_factory, ray_here):
    """One trial that trains, and one that cannot."""
    file = sweep_file(composed, tmp_path_factory.mktemp("two"), TWO)
    return file, tune(file)


def test_a_trial_is_trained_and_examined_and_another_says_why_not(two):
    file, manifest = two
    run, records = RunDir(file.config.run_dir), records_of(file)
    assert (manifest["summary"]["finished"], manifest["summary"]["failed"]) == (1, 1)
    assert records["1.0"].status == "failed"
    assert "selection is empty" in records["1.0"].error or "no expert" in records["1.0"].error
    trained = records["0.0"]
    name = f"tune/small/work/{trained.id}"
    evaluated, base = (run.read_json(f"eval/validation/{one}.json") for one in (f"{name}/round_1", "base"))
    expected = safety_measures(file.sweep, evaluated, base["benign_loss"])
    assert {key: trained.last[key] for key in expected} == expected
    assert evaluated["benign_loss"] != base["benign_loss"], "training did something"
    answered = run.read_table(f"eval/validation/{name}/round_1/responses.parquet").to_pandas()
    split = run.read_table("prompts.parquet").to_pandas().groupby("goal_id")["split"].first()
    assert set(split[answered["goal_id"]]) == {"validation"}, "in wrappers that training never saw as well"


def test_models_of_trials_are_cleared_away_and_their_places_given_back(two):
    file, _ = two
    run = RunDir(file.config.run_dir)
    left = run.files("tune/small/work")
    assert left, "what each step did is kept"
    assert {Path(name).suffix for name in left} == {".json"}
    for _ in range(100):
        if ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]:
            break
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"]


def test_done_again_it_does_nothing(two):
    file, _ = two
    assert tune(file)["skipped"]


@pytest.mark.soak
def test_changed_settings_are_tried_with_force(two):
    """What trials left in the run directory, under names of their own, is in nobody's way."""
    file, _ = two
    before = records_of(file)["0.0"]
    changed = load_sweep(file.path, ["train.num_epochs=2"])
    with pytest.raises(InputError, match=r"was run with train.num_epochs = 1, now 2; use --force"):
        tune(changed)
    tune(changed, force=True)
    after = records_of(changed)
    assert {name: record.status for name, record in after.items()} == {"0.0": "finished", "1.0": "failed"}
    assert after["0.0"].last["benign_loss_increase"] != before.last["benign_loss_increase"], "trained longer"


@pytest.mark.soak
def test_a_trial_that_lags_behind_is_stopped_and_a_killed_sweep_goes_on(composed, tmp_path, ray_here):
    """Rates that do nothing are stopped after a round. The driver is killed in the middle of the second trial, and the
    sweep goes on with it; what is finished stays, and all ends as it does undisturbed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    undisturbed = sweep_file(composed, tmp_path / "a", ASHA, **LONG)
    tune(undisturbed)
    expected = records_of(undisturbed)
    assert {name: record.status for name, record in expected.items()} == {
        "0.003": "finished",
        "1e-09": "stopped",
        "1e-08": "stopped",
    }
    killed = sweep_file(composed, tmp_path / "b", ASHA, **LONG)
    command = [sys.executable, "-m", "moe_safety", "tune", str(killed.path)]
    driver = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(6000):
        statuses = [record.status for record in records_of(killed).values()]
        if sorted(statuses) == ["finished", "running"]:
            break
        assert driver.poll() is None, "it ended before"
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = records_of(killed)["0.003"]
    assert kept.status == "finished"
    tune(killed)
    found = records_of(killed)
    assert found["0.003"].seconds == kept.seconds, "not trained again"
    assert {name: (record.status, record.last) for name, record in found.items()} == {
        name: (record.status, record.last) for name, record in expected.items()
    }


def test_a_validation_split_without_attacks_is_refused_before_anything_trains(composed, tmp_path):
    settings = {"run_dir": str(tmp_path / "other"), "data.validation_fraction": 0}
    file = sweep_file(composed, tmp_path, TWO, **settings)
    with pytest.raises(InputError) as refused:
        tune(file)
    complaint = "no attack is in the validation split, so what is trained could not be measured"
    assert str(refused.value).startswith(f"data.validation_fraction: {complaint}; give more goals")
    assert RunDir(file.config.run_dir).names("manifests", ".json") == ["manifests/prepare.json"]


@pytest.mark.parametrize(
    ("objectives", "labels"),
    [
        ([], ["unsafe"]),
        (["asr", "over_refusal"], ["unsafe", "benign"]),
        (["plain_refusal", "trainable_ratio", "benign_loss_increase"], ["unsafe", "safe"]),
    ],
)
def test_an_objective_asks_for_its_kind_of_prompt(objectives, labels):
    assert asked_by(sweep_of(search="optuna", objectives=objectives)) == labels
