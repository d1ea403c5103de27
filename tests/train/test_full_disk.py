"""A disk of its own that fills while a checkpoint is written: one line, and with room again the same end."""

import os
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from moe_safety.cli import main
from moe_safety.config import load_config
from moe_safety.identify.identify import identify
from moe_safety.rundir import RunDir
from moe_safety.train.train import train

ARM = "train/random"
ALONE = ["train.launch=process", "train.checkpoint_every=2"]
TOGETHER = ["train.launch=ray", "train.num_workers=2", "train.deepspeed=2", "train.checkpoint_every=1"]


@pytest.fixture
def disk(tmp_path):
    """64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not shutil.which("mount") or subprocess.call(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk]):
        pytest.skip("no disk may be mounted here")
    yield disk
    subprocess.check_call(["umount", "-l", disk])


@pytest.fixture(autouse=True)
def one_thread():
    """As Ray's workers; sums in another order have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fill(disk, leave):
    """Takes all of the disk but `leave` bytes."""
    place = os.statvfs(disk)
    with open(disk / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, place.f_bavail * place.f_frsize - leave)


def made(composed, folder, launch):
    flags = ["data.max_samples=60", "identify.method=random", "train.num_epochs=2", "train.learning_rate=1e-3"]
    flags = [f"run_dir={folder}", *flags, *launch]
    config = load_config("configs/demo.yaml", flags)
    shutil.copytree(composed, folder)
    identify(config)
    return config, [word for flag in flags for word in ("--set", flag)]


def result(config):
    """The steps' losses, and the weights."""
    run = RunDir(config.run_dir)
    log = run.read_json(f"{ARM}/training_metadata.json")["training_logs"]
    return [(row["step"], row["batch_idx"], row["loss"]) for row in log], load_file(
        run.path(f"{ARM}/final_model/model.safetensors")
    )


@pytest.mark.parametrize("launch", [ALONE, pytest.param(TOGETHER, marks=pytest.mark.soak)], ids=["alone", "together"])
def test_a_disk_that_fills_while_a_checkpoint_is_written(composed, tmp_path, disk, launch, capsys):
    whole, _ = made(composed, tmp_path / "whole", launch)
    train(whole)
    full, words = made(composed, disk / "run", launch)
    described = RunDir(whole.run_dir).read_json(f"{ARM}/training_metadata.json")
    moved = round(described["trainable_ratio"] * described["total_params"])
    fill(disk, leave=24 * moved)  # For one checkpoint, of 16 bytes an element, and half of another.
    capsys.readouterr()
    assert main(["train", "configs/demo.yaml", *words]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    checkpoints = f"{full.run_dir}/{ARM}/round_1/experts/checkpoints"
    first, second = (f"{checkpoints}/step-{full.train.checkpoint_every * n:08d}" for n in (1, 2))
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {second}: ")
    assert "No space left on device" in errors[0] or "is the disk full?" in errors[0]
    assert errors[0].endswith(f", last checkpoint: {first}")
    assert not os.path.exists(second), "nothing is left of the half"

    (disk / "filler").unlink()
    train(full)
    (steps, weights), (steps_again, weights_again) = result(whole), result(full)
    assert steps == steps_again
    assert all(torch.equal(tensor, weights_again[name]) for name, tensor in weights.items())
