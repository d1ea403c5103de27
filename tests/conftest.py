import fcntl
import os
import shutil

# Torch reads it when it is imported. The models are so small that more threads only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from hypothesis import HealthCheck, settings

import moe_safety.everything  # noqa: F401 - declares every name that a configuration may hold
from tests.demo import demo

# A busy machine is slow; that proves nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

SLOW = {"ray_here", "composed", "head", "nodes", "plugin"}
"""Fixtures whose files take long."""
LONG = {"benchmarks", "train"}
"""Folders of which many files do."""


def pytest_collection_modifyitems(items):
    """Files that take long come first, so that workers side by side end at about the same time."""
    slow = {item.path for item in items if not SLOW.isdisjoint(item.fixturenames)}
    items.sort(key=lambda item: item.path not in slow and item.path.parent.name not in LONG)


@pytest.fixture(scope="module")
def ray_here():
    """One Ray for all modules of this process, which ends with it; started again where a module has ended it."""
    from moe_safety.jobs.cluster import connect

    connect()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Makes a folder that the suite needs once: the worker that asks first fills it, the others wait for that."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name, fill):
        folder, filled = root / name, root / f"{name}.filled"
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not filled.exists():
                shutil.rmtree(folder, ignore_errors=True)
                fill(folder)
                filled.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def composed(made_once):
    """A run directory of the demo up to `compose`, for tests to copy."""
    from moe_safety.pipeline import run_one

    def fill(folder):
        for stage in ("prepare", "respond", "compose"):
            run_one(stage, demo(folder))

    return made_once("composed", fill)


@pytest.fixture
def configured(composed, tmp_path):
    """Makes the configuration of a fresh copy of it."""

    def make(*overrides, name="run"):
        shutil.copytree(composed, tmp_path / name)
        return demo(tmp_path / name, *overrides)

    return make
