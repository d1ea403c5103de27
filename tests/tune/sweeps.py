"""Sweep files for tests."""

import yaml

from moe_safety.config.sweep import Sweep
from moe_safety.config.sweepfile import load_sweep
from moe_safety.tune.records import Record

SPACE = {"identify.top_k": {"integer": [2, 12]}, "train.masking": {"choice": ["gradient", "union"]}}


def sweep_of(kind="training", **settings):
    if "trials" not in settings and settings.get("search") != "grid":
        settings["trials"] = 8
    return Sweep(kind=kind, **{"space": SPACE, **settings})


def file_of(folder, sweep, overrides=(), base="../configs/demo.yaml", **given):
    """Loads a sweep file that is written into a folder beside `configs`."""
    path = folder / "trial.yaml"
    path.write_text(yaml.safe_dump({"base": str(base), "sweep": sweep, **given}))
    return load_sweep(path, list(overrides))


def finished(point, *results, **more):
    results = [{"round": number, **result} for number, result in enumerate(results, 1)]
    return Record(point, more.pop("status", "finished"), results, **more)
