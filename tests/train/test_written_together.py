"""Two workers write the model of a phase together; where one is killed on the way, the end is the same."""

import os
import signal
from functools import partial

import pytest
import torch.distributed as dist
from torch.multiprocessing import ProcessExitedException

from moe_safety.models.io.save import _File
from moe_safety.rundir import Account, RunDir
from moe_safety.train import launch, worker
from moe_safety.train.train import train
from tests.train.byhand import configured
from tests.train.tiny import in_workers

FLAGS = ["train.launch=ray", "train.num_workers=2", "train.checkpoint_every=1"]
SHARD = 300_000


def work(task, dies):
    for name in ("save_weights", "save_rest"):
        setattr(worker, name, partial(getattr(worker, name), shard=SHARD))
    if dies and dist.get_rank() == 1:
        _File._write = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
    worker.work(task, Account())


def trained(folder, monkeypatch, dies):
    """As Ray Train does: when a worker has died all are started again. Its end, and what stood there between."""
    between = []

    def start(run, task):
        if dies:
            with pytest.raises(ProcessExitedException, match="SIGKILL"):
                in_workers(work, task, True, workers=2, tmp_path=folder)
            between.extend(run.files(task.model_folder) + run.names(task.folder))
        in_workers(work, task, False, workers=2, tmp_path=folder)

    monkeypatch.setattr(launch, "_on_ray", start)
    folder.mkdir()
    config = configured(folder, [(0, 1), (2, 3), (3, 8)], *FLAGS)
    manifest = train(config)
    log = RunDir(config.run_dir).read_json("train/selective-routing/training_metadata.json")["training_logs"]
    return manifest["outputs"], [(row["step"], row["batch_idx"], row["loss"]) for row in log], between


@pytest.mark.soak
def test_a_worker_that_is_killed_while_it_writes_changes_nothing(tmp_path, monkeypatch):
    whole, steps, _ = trained(tmp_path / "whole", monkeypatch, dies=False)
    again, same, between = trained(tmp_path / "killed", monkeypatch, dies=True)
    assert sum(name.endswith(".safetensors") and "final_model" in name for name in whole) > 2
    assert not any(name.endswith(("config.json", "index.json", "outcome.json")) for name in between)
    model = "train/selective-routing/final_model/"
    assert {name: again[name] for name in again if name.startswith(model)} == {
        name: whole[name] for name in whole if name.startswith(model)
    }
    assert steps == same
