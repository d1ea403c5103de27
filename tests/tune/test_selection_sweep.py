"""A selection sweep on the demo model, on Ray Tune: what trials measure, killed and begun again, failed trials."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from moe_safety.config import load_config, load_sweep
from moe_safety.errors import InputError
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from moe_safety.tune.records import Records
from moe_safety.tune.selection.ground import read_ground
from moe_safety.tune.selection.held_out import capture_held_out
from moe_safety.tune.tune import tune
from tests.demo import REPLICAS, demo

METHODS = [{"method": "routing", "score": "risk_diff"}, {"method": "gradient", "score": "gradient"}]
SWEEP = {
    "kind": "selection",
    "trials": 40,
    "space": {
        "identify": {"choice": [*METHODS, {"method": "random", "score": None}]},
        "identify.threshold": {"choice": [0.0, 0.02, 1.0]},
        "identify.top_k": {"integer": [2, 12]},
    },
}


@pytest.fixture(scope="module")
def file(composed, tmp_path_factory, ray_here):
    """The sweep, over a run whose stages are done."""
    folder = tmp_path_factory.mktemp("sweep")
    shutil.copytree(composed, folder / "run")
    given = {
        "base": str(Path("configs/demo.yaml").resolve()),
        "set": {"run_dir": str(folder / "run"), "data.max_samples": 60, **REPLICAS},
        "sweep": SWEEP,
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(given))
    return load_sweep(folder / "small.yaml")


@pytest.fixture(scope="module")
def swept(file):
    return tune(file)


def records_of(file, name="small"):
    return {record.id: record for record in Records(RunDir(file.config.run_dir), f"tune/{name}").read()}


def nothing_passes(record):
    return record.point["identify.threshold"] == "1.0" and "routing" in record.point["identify"]


def test_every_trial_is_measured_or_says_why_not(file, swept):
    records = records_of(file).values()
    assert len(records) == 40
    routed = [record for record in records if nothing_passes(record)]
    assert routed, "the test's own space holds some"
    assert {(record.status, record.error) for record in routed} == {
        ("failed", "identify.threshold: no expert is selected")
    }
    measured = [record for record in records if record not in routed]
    assert {record.status for record in measured} == {"finished"}
    for record in measured:
        assert 0 <= record.last["auroc"] <= 1
        assert record.last["selection_score"] == (record.last["auroc"] + record.last["stability"]) / 2
    assert swept["summary"]["failed"] == len(routed)


def test_the_table_and_the_configuration_that_is_ready_to_run(file, swept):
    run = RunDir(file.config.run_dir)
    rows = run.read_table("tune/small/results.parquet").to_pylist()
    scores = [row["selection_score"] for row in rows if row["status"] == "finished"]
    assert swept["summary"]["best"]["selection_score"] == max(scores)
    best = load_config(run.path("tune/small/best.yaml"))
    assert best.identify == file.at(swept["summary"]["best"]["point"]).identify
    assert best.run_dir != file.config.run_dir
    assert tune(file)["skipped"]


def test_trials_see_training_and_validation_prompts_alone(file, swept):
    """Held-out prompts are the validation split's, and none of them was fitted on."""
    run = RunDir(file.config.run_dir)
    prompts = run.read_table("prompts.parquet").to_pandas().set_index("prompt_id")["split"]
    held_out = RunDir(run.uri_of("tune/_validation"))
    tables = [held_out.read_table(name, ["prompt_id"]) for name in held_out.names("routing", ".parquet")]
    captured = {row for table in tables for row in table["prompt_id"].to_pylist()}
    assert set(prompts[list(captured)]) == {"validation"}
    ground = read_ground(file.config, run, held_out)
    trained = run.read_table("batches.parquet")["prompt_id"].to_pylist()
    assert set(prompts[trained]) == {"train"}
    assert len(ground.held_out.attack) == len(captured)


def test_what_was_held_out_follows_what_was_prepared(file, swept, tmp_path):
    """Other prompts, or prompts captured in another way, take the place of those that the sweep before held out."""
    run = RunDir(file.config.run_dir)
    shutil.copytree(run.root, tmp_path / "other")
    config = demo(tmp_path / "other", "seed=1")
    other = RunDir(config.run_dir)
    before = other.digest("tune/_validation/prompts.parquet")
    for stage in ("prepare", "respond", "compose", "capture"):
        run_one(stage, config, force=True)
    held_out = capture_held_out(config, other)
    assert held_out.digest("prompts.parquet") != before
    captured = [held_out.read_table(name, ["prompt_id"]) for name in held_out.names("routing", ".parquet")]
    asked = set(held_out.read_table("prompts.parquet")["prompt_id"].to_pylist())
    assert {row for table in captured for row in table["prompt_id"].to_pylist()} <= asked
    done = held_out.read_json("manifests/capture.json")
    assert capture_held_out(config, other).read_json("manifests/capture.json") == done, "captured once"


def test_halves_are_what_those_batches_alone_would_give(file, swept, tmp_path):
    """A run of every other batch ranks as the sweep's half does."""
    run = RunDir(file.config.run_dir)
    ground = read_ground(file.config, run, RunDir(run.uri_of("tune/_validation")))
    shutil.copytree(run.root, tmp_path / "half")
    half = RunDir(str(tmp_path / "half"))
    batches = half.read_table("batches.parquet")
    numbers = batches["batch_idx"].to_numpy()
    half.write_table("batches.parquet", batches.filter(np.isin(numbers, np.unique(numbers)[::2])))
    config = file.config.model_copy(update={"run_dir": half.uri})
    for stage in ("capture", "gradients", "identify"):
        run_one(stage, config, force=True)
    table = half.read_table("risk_diff.parquet").to_pandas()
    for score in ("risk_diff", "risk_diff_mean", "risk_diff_control"):
        np.testing.assert_array_equal(ground.scores[score][1], table[score])
    table = half.read_table("expert_gradients.parquet").to_pandas()
    for score in ("gradient", "gradient_l2", "gradient_per_token"):
        np.testing.assert_allclose(ground.scores[score][1], table[score], rtol=1e-6)


@pytest.mark.soak
def test_a_killed_sweep_goes_on_and_keeps_what_is_finished(file, swept, tmp_path):
    """The driver dies in the middle; the command is given again; all trials stand as in the undisturbed sweep."""
    path = file.path.with_name("again.yaml")
    path.write_text(file.path.read_text())
    folder = RunDir(file.config.run_dir).path("tune/again/trials")
    command = [sys.executable, "-m", "moe_safety", "tune", str(path)]
    driver = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for(lambda: sum('"finished"' in text for text in _texts(folder)) >= 3, driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = records_of(file, "again")
    kept = {name: record for name, record in before.items() if record.status == "finished"}
    assert 3 <= len(kept) < 40, "it was killed in the middle"
    tune(load_sweep(path))
    after, undisturbed = records_of(file, "again"), records_of(file)
    assert {name: after[name].seconds for name in kept} == {name: record.seconds for name, record in kept.items()}
    assert {name: (record.status, record.last) for name, record in after.items()} == {
        name: (record.status, record.last) for name, record in undisturbed.items()
    }


def _texts(folder):
    return [file.read_text() for file in Path(folder).glob("*.json")]


def _wait_for(happened, process):
    for _ in range(15_000):
        if happened():
            return
        assert process.poll() is None, "it ended before"
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def test_changed_settings_are_refused(file, swept):
    changed = load_sweep(file.path, ["sweep.trials=3"])
    with pytest.raises(InputError, match=r"`tune/small` was run with sweep.trials = 40, now 3; use --force"):
        tune(changed)
