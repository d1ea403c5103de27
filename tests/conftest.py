import os

import pytest

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
