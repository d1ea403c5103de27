"""Sweep files for tests."""

import shutil
from pathlib import Path

import yaml

from moe_safety.config import Sweep, load_sweep
from moe_safety.rundir import RunDir
from moe_safety.tune.records import Record, Records
from tests.demo import REPLICAS

SPACE = {"identify.top_k": {"integer": [2, 12]}, "train.masking": {"choice": ["gradient", "union"]}}

SMALL = REPLICAS | {
    "data.max_samples": 60,
    "identify.method": "routing",
    "identify.bootstrap_rounds": 20,
    "evaluate.prompts": 6,
}


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


def sweep_file(composed, folder, sweep, **settings):
    """A sweep file over a copy of the demo's batches."""
    shutil.copytree(composed, folder / "run")
    given = {"base": str(Path("configs/demo.yaml").resolve()), "sweep": sweep}
    given["set"] = SMALL | {"run_dir": str(folder / "run"), "train.num_epochs": 1} | settings
    (folder / "small.yaml").write_text(yaml.safe_dump(given))
    return load_sweep(folder / "small.yaml")


def records_of(file):
    """By the first value of each trial's point."""
    found = Records(RunDir(file.config.run_dir), f"tune/{file.name}").read()
    return {next(iter(record.point.values())): record for record in found}
