"""The demo's configuration as tests use it."""

from moe_safety.config import load_config

REPLICAS = {f"{stage}.replicas": 1 for stage in ("respond", "capture", "gradients", "effects", "evaluate")}
"""Each replica begins with five seconds of imports; a test that needs several asks for them."""


def demo(folder, *flags):
    """Sixty requests of each kind, in that folder: five whole batches of them, and one of two pairs."""
    return load_config("configs/demo.yaml", [*demo_flags(folder), *flags])


def demo_flags(folder):
    """What `--set` takes for that."""
    return [
        f"run_dir={folder}",
        "data.max_samples=60",
        *(f"{key}={count}" for key, count in REPLICAS.items()),
    ]
