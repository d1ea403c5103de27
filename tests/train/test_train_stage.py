"""`train` as users run it: one arm from a run directory, in this process and on Ray workers."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch
from safetensors.torch import load_file

from moe_safety.checkpoints import apply_delta, verify
from moe_safety.errors import InputError
from moe_safety.identify import read_selection
from moe_safety.models.io import check_loadable, model_folder
from moe_safety.pipeline import SELECTION, run_one
from moe_safety.rundir import RunDir
from moe_safety.train.train import train
from tests.demo import demo

pytestmark = pytest.mark.usefixtures("ray_here")

FAST = ["train.launch=process", "train.num_epochs=1", "train.learning_rate=1e-3", "train.weight_decay=0.1"]
THREE_ROUNDS = [
    *FAST,
    "train.num_rounds=3",
    "train.checkpoint_every=2",
    "train.router.lr=1e-3",
    # One model loaded for each time that experts are identified anew.
    "capture.replicas=1",
    "gradients.replicas=1",
    "identify.bootstrap_rounds=20",
]
BY_GRADIENT = ["identify.method=gradient"]
BY_ROUTING = ["train.reidentify=true"]
WITH_ROUTER = ["train.router.enabled=true"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the processes that the tests start: sums in another order have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def identified(composed, tmp_path_factory):
    """A run directory with a selection by routing, to copy."""
    folder = tmp_path_factory.mktemp("identified") / "run"
    shutil.copytree(composed, folder)
    config = demo(folder)
    for stage in ("capture", "gradients", "identify"):
        run_one(stage, config)
    return folder


@pytest.fixture
def arm(identified, tmp_path):
    """Makes the configuration of a fresh copy of it."""

    def make(*flags, name="run"):
        shutil.copytree(identified, tmp_path / name)
        return demo(tmp_path / name, *flags)

    return make


def metadata(config, name):
    return RunDir(config.run_dir).read_json(f"train/{name}/training_metadata.json")


def weights(config, name):
    return load(f"{config.run_dir}/train/{name}/final_model")


def load(folder):
    return load_file(f"{folder}/model.safetensors")


def test_what_trained_is_what_the_metadata_say(arm, capsys):
    config = arm(*FAST)
    assert not train(config)["skipped"]
    told = capsys.readouterr().out
    assert "SELECTIVE EXPERT training" in told
    assert "6 batches x 12/24 examples" in told
    assert "12/24 found, 24 expected (7 safe, 7 unsafe)" in told
    run, described = RunDir(config.run_dir), metadata(config, "selective-routing")
    selection, layout = read_selection(run), check_loadable(config.model)
    report = verify(
        model_folder(config.model), run.path("train/selective-routing/final_model"), selection.union(), False
    )
    assert report.violations == []
    assert sorted(report.experts) == selection.union()
    changed = sum(layout.layers[layout.position(layer)].parameters_per_expert for layer, _ in report.experts)
    assert described["trainable_ratio"] == changed / described["total_params"]
    assert described["total_params"] == report.parameters
    assert described["training_mode"] == "selective_experts"
    assert described["total_unique_unsafe_experts"] == len(selection.union())
    by_batch = [[list(pair) for pair in experts] for experts in selection.per_batch.values()]
    assert described["per_batch_unsafe_expert_counts"] == [len(experts) for experts in by_batch]
    assert described["batch_unsafe_experts_summary"] == by_batch[:3]
    assert described["identified_experts_per_round"]["1"]["experts"] == [list(pair) for pair in selection.experts]
    told = [described[key] for key in ("model_name", "batch_size", "safe_ratio", "num_batches")]
    assert told == [config.model.name, 16, 0.5, 6]
    assert [row["batch_idx"] for row in described["training_logs"]] != [[0], [1], [2], [3], [4], [5]], "shuffled"
    assert sorted(row["batch_idx"][0] for row in described["training_logs"]) == [0, 1, 2, 3, 4, 5]
    assert np.load(run.path("train/selective-routing/expert_mask.npy")).sum() == len(selection.union())

    again = run.path("applied")
    apply_delta(model_folder(config.model), run.path("train/selective-routing/delta.safetensors"), again)
    assert all((tensor == weights(config, "selective-routing")[name]).all() for name, tensor in load(again).items())

    assert train(config)["skipped"]
    with pytest.raises(InputError, match=r"train.learning_rate = 0.001, now 0.01; use --force"):
        train(demo(config.run_dir, *FAST, "train.learning_rate=1e-2"))


def test_the_baseline_moves_everything(arm, capsys):
    config = arm(*FAST, "train.mode=baseline", "train.learning_rate=1e-4")
    train(config)
    assert "BASELINE EXPERIMENT: Training ALL model parameters" in capsys.readouterr().out
    described = metadata(config, "baseline")
    assert (described["training_mode"], described["trainable_ratio"]) == ("full_model_baseline", 1.0)
    base, tuned = load_file(model_folder(config.model) / "model.safetensors"), weights(config, "baseline")
    assert all((tuned[name] != base[name]).any() for name in base)


def test_bad_selections_are_told_apart(arm):
    config = arm(*FAST)
    run = RunDir(config.run_dir)
    whole = run.read_json(SELECTION)
    cases = {
        "was made for another model": {"model": "another"},
        "has masks for 4 batches, and there are 6": {"per_batch": dict(list(whole["per_batch"].items())[:4])},
        "names L09_E00": {"per_batch": whole["per_batch"] | {"0": [[9, 0]]}},
        "was made from another batches.parquet": {"inputs": whole["inputs"] | {"batches.parquet": "0" * 64}},
        "was made with method = gradient, now routing": {"method": "gradient"},
        "was made with top_k = 3, now 8": {"top_k": 3},
        "selects no expert": {"per_batch": {batch: [] for batch in whole["per_batch"]}},
    }
    for message, change in cases.items():
        run.write_json(SELECTION, whole | change)
        with pytest.raises(InputError, match=message):
            train(config, force=True)
    assert not os.path.exists(run.path("train/selective-routing/final_model"))


@pytest.mark.parametrize(
    ("name", "flags", "scores"),
    [
        ("selective-gradient+router", [*BY_GRADIENT, *WITH_ROUTER], "expert_gradients.parquet"),
        pytest.param("selective-routing", BY_ROUTING, "risk_diff.parquet", marks=pytest.mark.soak),
        pytest.param("selective-gradient", BY_GRADIENT, "expert_gradients.parquet", marks=pytest.mark.soak),
        pytest.param(
            "selective-routing+router", [*BY_ROUTING, *WITH_ROUTER], "risk_diff.parquet", marks=pytest.mark.soak
        ),
    ],
)
def test_three_rounds_killed_in_the_second_end_as_if_nothing_had_been(arm, name, flags, scores):
    flags = [*THREE_ROUNDS, *flags]
    whole, killed = arm(*flags, name="whole"), arm(*flags, name="killed")
    for config in (whole, killed):
        run_one("identify", config, force=True)
    train(whole)
    kill_in_the_second_round(killed, flags)
    train(killed)

    one, two = weights(whole, name), weights(killed, name)
    assert all((one[key] == two[key]).all() for key in one)
    logs = [
        [(row["round"], row["phase"], row["step"], row["batch_idx"], row["loss"]) for row in each["training_logs"]]
        for each in (metadata(whole, name), metadata(killed, name))
    ]
    assert logs[0] == logs[1]
    phases = ["experts", "router"] if "+router" in name else ["experts"]
    assert [row[:3] for row in logs[0]] == [
        (n, phase, step) for n in (1, 2, 3) for phase in phases for step in range(6)
    ]

    run, folders = RunDir(whole.run_dir), [f"train/{name}/round_{number}" for number in (1, 2, 3)]
    selections = [read_selection(run, f"{folder}/{SELECTION}") for folder in folders]
    assert selections[0].model != selections[1].model != selections[2].model
    assert len({run.digest(f"{folder}/{scores}") for folder in folders}) == 3
    described = metadata(whole, name)
    chosen = {str(n): {"experts": [list(pair) for pair in one.experts]} for n, one in enumerate(selections, start=1)}
    assert described["identified_experts_per_round"] == chosen
    if "gradient" in name:
        assert set(described["expert_gradients_per_round"]) == {"1", "2", "3"}
        assert "L0_E1" in described["expert_gradients_per_round"]["2"]
    check_that_phases_move_their_own(run, whole, folders, phases, selections)


def kill_in_the_second_round(config, flags):
    """SIGKILLs the command, and all that it started, on its way."""
    command = [sys.executable, "-m", "moe_safety", "train", "configs/demo.yaml"]
    for flag in [f"run_dir={config.run_dir}", "data.max_samples=60", *flags]:
        command += ["--set", flag]
    address = ray.get_runtime_context().gcs_address
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "RAY_ADDRESS": address}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True, stderr=subprocess.STDOUT
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "round_2/experts step 4" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "".join(said)


def check_that_phases_move_their_own(run, config, folders, phases, selections):
    """The round's experts in expert phases, routers in router phases, and nothing else in either."""
    before = model_folder(config.model)
    for folder, selection in zip(folders, selections, strict=True):
        for phase in phases:
            after = run.path(f"{folder}/{phase}/model")
            report = verify(before, after, selection.union() if phase == "experts" else [], phase == "router")
            assert report.violations == [], (folder, phase)
            assert report.experts if phase == "experts" else report.routers == [0, 1, 2, 3], (folder, phase)
            before = after


def kill_a_worker_after(folder, step):
    """SIGKILLs one Ray Train worker once a checkpoint of this step or a later one stands."""
    while not any(int(marker.stem.removeprefix("step-")) >= step for marker in folder.glob("step-*.json")):
        time.sleep(0.05)
    workers = []
    while not workers:
        with suppress(psutil.NoSuchProcess):
            started = psutil.Process().children(recursive=True)
            workers = [process for process in started if "RayTrainWorker" in " ".join(process.cmdline())]
    workers[0].kill()


@pytest.mark.soak
def test_two_ray_workers_of_which_one_is_killed(arm, capsys):
    flags = ["train.launch=ray", "train.num_workers=2", "train.num_epochs=10", "train.checkpoint_every=3"]
    # ZeRO-3 has every worker hold its part of the model alone, while it is read, trained and saved.
    more = [*FAST, *flags, "train.deepspeed=3"]
    whole, killed = arm(*more, name="whole"), arm(*more, name="killed")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(whole)
    # Ray's own would still be there, and end what comes after training as if it had succeeded.
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    told = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if " step " in line]
    assert told == [f"train/selective-routing/round_1/experts step {step + 1}" for step in range(30)]
    checkpoints = Path(killed.run_dir, "train/selective-routing/round_1/experts/checkpoints")
    thread = threading.Thread(target=kill_a_worker_after, args=(checkpoints, 6), daemon=True)
    thread.start()
    train(killed)
    assert not thread.is_alive()
    one, two = weights(whole, "selective-routing"), weights(killed, "selective-routing")
    assert all((one[key] == two[key]).all() for key in one)
    chosen = read_selection(RunDir(whole.run_dir)).union()
    report = verify(model_folder(whole.model), f"{whole.run_dir}/train/selective-routing/final_model", chosen)
    assert (report.violations, report.experts) == ([], chosen)
    steps = [[row["step"] for row in metadata(each, "selective-routing")["training_logs"]] for each in (whole, killed)]
    assert steps[0] == steps[1] == list(range(30))
