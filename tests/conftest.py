import os

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow; that proves nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="module")
def ray_here():
    """One Ray for a test module."""
    import ray

    from moe_safety.jobs.cluster import connect

    connect()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def composed(tmp_path_factory):
    """A run directory of the demo up to `compose`, for tests to copy."""
    from moe_safety.config import load_config
    from moe_safety.pipeline import run_one

    folder = tmp_path_factory.mktemp("composed") / "run"
    config = load_config("configs/demo.yaml", [f"run_dir={folder}", "data.max_samples=60"])
    for stage in ("prepare", "respond", "compose"):
        run_one(stage, config)
    return folder


@pytest.fixture
def configured(composed, tmp_path):
    """Makes the configuration of a fresh copy of it."""
    import shutil

    from moe_safety.config import load_config

    def make(*overrides, name="run"):
        shutil.copytree(composed, tmp_path / name)
        flags = [f"run_dir={tmp_path / name}", "data.max_samples=60", *overrides]
        return load_config("configs/demo.yaml", flags)

    return make
