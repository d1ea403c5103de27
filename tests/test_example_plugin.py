"""The package in `examples/plugin`, which adds one of each thing: installed, used by every stage, changed, and gone."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import moe_safety
from moe_safety.cli import main
from moe_safety.errors import InputError
from moe_safety.everything import load_config
from moe_safety.models.demo.build import demo_folder
from moe_safety.rundir import RunDir
from tests.demo import REPLICAS
from tests.evaluate.schema import check_comparison

ROOT = Path(moe_safety.__file__).parents[1]
STAGES = ["prepare", "respond", "compose", "capture", "identify", "compare", "batch-categories", "report"]

USE = """
import json, sys
from pathlib import Path

from docs.generate import configuration_page, data_page
from moe_safety.cli import main

folder, config, *stages = sys.argv[1:]
for stage in stages:
    assert main([stage, config]) == 0, stage

import torch
from moe_safety.models.families import declared

declared("example_moe")
from moe_safety_example.family import ExampleMoeConfig, ExampleMoeForCausalLM

sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 16, "num_attention_heads": 4}
ExampleMoeForCausalLM(ExampleMoeConfig(num_hidden_layers=2, **sizes)).save_pretrained(f"{folder}/model")
assert main(["inspect", f"{folder}/model"]) == 0
Path(folder, "docs.md").write_text(configuration_page() + data_page())
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """The package, installed in a folder."""
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"
    source.mkdir()
    for file in (ROOT / "examples" / "plugin").rglob("*.*"):  # Building leaves folders beside what is built.
        if file.suffix in (".py", ".toml", ".md"):
            target = source / file.relative_to(ROOT / "examples" / "plugin")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(folder / "installed")]
    subprocess.run([*pip, *options, str(source)], check=True)
    return folder / "installed"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A configuration that names all that it adds, for a run of a minute."""
    folder = tmp_path_factory.mktemp("run")
    attacks = json.loads((demo_folder() / "attacks.json").read_text())
    with (folder / "cases.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["behavior", "system", "test_case", "generation", "label", "method", "category"])
        for row in attacks[:40]:
            system, user = (turn["content"] for turn in row["all_prompt"])
            table.writerow([row["goal"], system, user, "", 1, "word-reversed", row["category"]])
    given = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
    changes = {
        "data": {"attacks": [{"path": str(folder / "cases.csv")}], "max_samples": 40},
        "judges": {"refusal": {"kind": "demo-language"}},
        "engines": {"best-of-n": {"n": 2}},
        "respond": {"engine": "best-of-n", "temperature": 0.2},
        "scores": {"log_odds": {"tokens": 0.25}},
        "identify": {"score": "log_odds", "bootstrap_rounds": 20},
        "train": {"num_epochs": 1},
        "evaluate": {"engine": "best-of-n", "routing_prompts": 2, "reidentify": False, "reattack": []},
        "arms": {"selective-focal": {"gamma": 1.5}},
        "compare": {"arms": ["base", "selective-focal"]},
    }
    for section, values in changes.items():
        given[section] = given.get(section, {}) | values
    for key in REPLICAS:
        given.setdefault(key.split(".")[0], {})["replicas"] = 1
    given["run_dir"] = str(folder / "run")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def call(plugin, *command):
    path = os.pathsep.join([str(plugin), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.fixture(scope="module")
def used(plugin, config):
    """What all stages said, and the run directory that they left."""
    done = call(plugin, "-c", USE, str(config.parent), str(config), *STAGES)
    assert done.returncode == 0, done.stderr
    return done.stdout, RunDir(str(config.parent / "run"))


def test_each_thing_is_named_where_people_look(used, config):
    said, run = used
    assert "batch-categories: " in said
    assert "ExampleMoeForCausalLM" in said
    help_of = (config.parent / "docs.md").read_text()
    names = ["log_odds", "selective-focal", "focal", "demo-language", "best-of-n", "harmbench_csv"]
    assert [name for name in names if f"`{name}`" not in help_of] == []
    selection = run.read_json("selection.json")
    assert (selection["method"], selection["score"]) == ("routing", "log_odds")
    assert selection["global"]
    found = run.read_json("comparison.json")
    check_comparison(found)
    assert [(arm["arm"], arm["verify"]) for arm in found] == [("base", "n/a"), ("selective-focal", "pass")]
    assert "selective-focal" in run.read_bytes("comparison.md").decode()
    report = run.read_bytes("report.html").decode()
    shown = [*names, "Log-odds ratio", "batch-categories"]
    assert [name for name in shown if name not in report] == []
    table = run.read_table("batch_categories.parquet").to_pylist()
    assert table
    assert all(0 <= row["jaccard"] <= 1 for row in table)


def test_every_result_knows_what_it_was_made_with(used):
    _, run = used
    version = "0.1.0 "
    expected = {
        "prepare": ["format harmbench_csv"],
        "respond": ["engine best-of-n", "kind of judge demo-language"],
        "identify": ["score log_odds"],
        "train.selective-focal": ["arm selective-focal", "loss focal"],
        "evaluate.selective-focal": ["engine best-of-n", "kind of judge demo-language"],
        "batch-categories": ["stage batch-categories"],
    }
    for stage, names in expected.items():
        inputs = run.read_json(f"manifests/{stage}.json")["inputs"]
        assert [name for name in names if not inputs.get(name, "").startswith(version)] == [], stage
    assert run.read_json("manifests/identify.json")["settings"]["score"] == {"tokens": 0.25}


def test_help_lists_its_stage(plugin):
    done = call(plugin, "-m", "moe_safety", "--help")
    assert "batch-categories" in done.stdout, done.stderr


def test_a_change_of_one_file_is_told(used, plugin, config):
    file = plugin / "moe_safety_example" / "score.py"
    before = file.read_text()
    try:
        file.write_text(before + "\n")
        done = call(plugin, "-m", "moe_safety", "identify", str(config))
    finally:
        file.write_text(before)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "`identify` was run with another score log_odds; use --force" in done.stderr


def test_without_it_its_configuration_is_one_line(config, capsys):
    assert main(["identify", str(config)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert "there is no engine 'best-of-n'. Known: transformers" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("identify.score=log_odds", "there is no score 'log_odds'"),
        ("compare.arms=[base, selective-focal]", "there is no arm 'selective-focal'"),
        ("judges.refusal.kind=demo-language", "there is no kind of judge 'demo-language'"),
        ("respond.engine=best-of-n", "there is no engine 'best-of-n'"),
        ("data.attacks=[{path: a.csv, format: harmbench_csv}]", "there is no format 'harmbench_csv'"),
    ],
)
def test_without_it_its_names_are_unknown(given, told, tmp_path):
    with pytest.raises(InputError, match=told):
        load_config(str(ROOT / "configs" / "demo.yaml"), [f"run_dir={tmp_path}", given])
