"""What becomes of a phase when Ray Train itself stumbles. Its workers are stood in for by this process."""

import logging
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from ray.train import ControllerError
from ray.train.torch import TorchTrainer

from moe_safety.errors import RunError
from moe_safety.rundir import Account, RunDir
from moe_safety.train import launch, worker
from moe_safety.train.train import train
from moe_safety.train.worker import work
from tests.train.byhand import configured

FAILED = ControllerError(ValueError("a worker was lost\nin the setup"))


@pytest.fixture
def fitting(tmp_path, monkeypatch):
    """Trains with Ray Train's runs replaced by these, one after the other."""

    def go(*runs, failures=3):
        left = iter(runs)
        monkeypatch.setattr("moe_safety.jobs.cluster.connect", lambda: None)
        monkeypatch.setattr(launch, "_fit", lambda run, task: next(left)(task))
        config = configured(tmp_path, [(0, 1)], "train.launch=ray", f"train.max_failures={failures}")
        train(config)
        assert not list(left)
        return RunDir(config.run_dir).read_json("train/selective-routing/training_metadata.json")

    return go


def stumbles(task):
    raise FAILED


def works(task):
    work(task, Account())


def works_and_stumbles(task):
    works(task)
    raise FAILED


def test_it_is_started_again(fitting, capsys):
    assert len(fitting(stumbles, stumbles, works)["training_logs"]) == 4
    out, err = capsys.readouterr()
    line = "train/selective-routing/round_1/experts: Training failed due to controller error: in the setup"
    assert err.count(f"{line}; starting again\n") == 2
    assert [line.split(":")[0][-6:] for line in out.splitlines() if " step " in line] == [f"step {n}" for n in "1234"]


def test_what_workers_warn_of_before_the_first_step_is_told(fitting, monkeypatch, capsys):
    def packing(model):
        logging.getLogger("moe_safety.models").warning("rows are padded")
        return nullcontext(False)

    monkeypatch.setattr(worker, "packing", packing)
    fitting(works)
    assert "train/selective-routing/round_1/experts: rows are padded" in capsys.readouterr().out.splitlines()


def test_but_not_for_ever(fitting):
    with pytest.raises(RunError, match="experts: Training failed due to controller error: in the setup"):
        fitting(stumbles, stumbles, works, failures=1)


def test_what_fails_after_the_work_is_done_does_not_count(fitting):
    assert len(fitting(works_and_stumbles)["training_logs"]) == 4


def test_a_phase_whose_model_was_damaged_is_done_again(fitting, tmp_path):
    fitting(works)
    run = RunDir(str(tmp_path))
    task = "train/selective-routing/round_1/experts"
    outcome = run.read_json(f"{task}/outcome.json")
    left = [*run.files(f"{task}/model"), f"{task}/delta.safetensors"]
    assert outcome["files"] == {name: run.digest(name) for name in left}
    weights = f"{task}/model/model.safetensors"
    data = bytearray(run.read_bytes(weights))
    data[-1] ^= 1
    run.write_bytes(weights, bytes(data))
    whole = SimpleNamespace(train=SimpleNamespace(save="model"))
    named = {"outcome": f"{task}/outcome.json", "model_folder": f"{task}/model"}
    stored = SimpleNamespace(**named, identity=outcome["identity"], config=whole)
    assert launch._stored(run, stored) is None
    data[-1] ^= 1
    run.write_bytes(weights, bytes(data))
    assert launch._stored(run, stored) == outcome


def test_routers_follow_the_experts_that_the_arm_without_them_trained(tmp_path, monkeypatch):
    begun = []

    def counting(task, account):
        begun.append((task.arm, task.kind, task.config.seed))
        work(task, account)

    monkeypatch.setattr(worker, "work", counting)
    router = ["train.router.enabled=true", "train.router.lr=1e-2"]
    train(configured(tmp_path / "alone", [(0, 1)], *router))
    for name, flags in (("both", []), ("both", router), ("other", []), ("other", [*router, "seed=43"])):
        train(configured(tmp_path / name, [(0, 1)], *flags))
    both = "selective-routing+router"
    phases = [(both, "experts", 42), (both, "router", 42)]
    assert begun[:2] == phases
    assert begun[2:4] == [("selective-routing", "experts", 42), phases[1]]
    # Other steps are made anew.
    assert begun[4:] == [("selective-routing", "experts", 42), (both, "experts", 43), (both, "router", 43)]
    alone, taken = (RunDir(str(tmp_path / name)) for name in ("alone", "both"))
    logs = [run.read_json(f"train/{both}/training_metadata.json")["training_logs"] for run in (alone, taken)]
    first, second = ([row | {"seconds": 0} for row in log] for log in logs)
    assert first == second
    for file in (f"{both}/final_model/model.safetensors", f"{both}/round_1/experts/delta.safetensors"):
        assert alone.digest(f"train/{file}") == taken.digest(f"train/{file}")


def test_workers_that_somebody_elsewhere_asked_to_stop_have_not_failed(tmp_path, monkeypatch):
    """As a comparison asks, which trains several arms side by side."""
    stop = tmp_path / "train/selective-routing/stop"
    for name in ("cluster.connect", "pool.release_replicas"):
        monkeypatch.setattr(f"moe_safety.jobs.{name}", lambda: None)
    monkeypatch.setattr("moe_safety.jobs.cluster.gpus_of_workers", lambda count: 0)
    monkeypatch.setattr(TorchTrainer, "__init__", lambda self, *args, **given: None)
    monkeypatch.setattr(TorchTrainer, "fit", lambda self: stop.touch())
    with pytest.raises(KeyboardInterrupt):
        train(configured(tmp_path, [(0, 1)], "train.launch=ray"))
    assert not stop.exists()


def test_a_store_that_does_not_answer_ends_no_training():
    def fails():
        raise OSError("no answer")

    assert worker._now_and_then(fails)() is False
