"""The generated pages say what the program does now."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import transformers
import yaml
from transformers import CONFIG_MAPPING

from docs.generate import PAGES, ROOT
from moe_safety.cli import main
from tests.documents import DEFAULTS, KINDS, SAME, leaves
from tests.families import FAMILIES, UNSERVED
from tests.test_imports import ROOMS


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_current(name):
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run `make docs`"


def test_arguments_are_told_as_they_are_typed():
    page = PAGES["commands.md"]()
    for given in ("[CONFIG.yaml]", "bash|zsh|fish", "MODEL --attacks FILE ...", "SWEEP.yaml"):
        assert f" Takes `{given}`." in page


def test_no_family_with_experts_is_forgotten():
    models = Path(transformers.__file__).parent / "models"
    with_experts = {
        path.parent.name
        for path in models.glob("*/modeling_*.py")
        if "\n@use_experts_implementation" in path.read_text()
    }
    told = {CONFIG_MAPPING[name].__module__.split(".")[2] for name in (*FAMILIES, *UNSERVED)}
    assert with_experts <= told, f"transformers {version('transformers')}"


def test_the_readme_is_short_and_counts_the_families():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert f"[{len(FAMILIES)} families](docs/models.md)" in text


def test_the_architecture_tells_the_rooms_in_their_order():
    table = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Rooms\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", cell)) for cell in cells] == ROOMS


SOURCE = {"path": "attacks.json"}
JUDGES = {
    "refusal": {"kind": "panel", "judges": [{"kind": "rules"}, {"kind": "endpoint", "model": "m"}]},
    "harm": {"kind": "generative", "model": "m", "grading": {"pattern": "([0-9])", "harmful_from": 5.0}},
}
FULL = {
    "run_dir": "run",
    "model": {"name": "demo"},
    "data": {"attacks": [SOURCE], "benign": [SOURCE], "controls": {"from": "benign", "wrapper": "flip-word-order"}},
    "judges": JUDGES,
    "evaluate": {"reattack": [SOURCE], "suites": [{"name": "a", "kind": "attack", "source": SOURCE, **JUDGES}]},
    "arms": {"dpo": {}, "lora": {}, "lora-experts": {}, "prefix": {}, "representation": {}},
    "engines": {"slots": {}},
}


def test_a_configuration_with_everything_has_the_keys_and_defaults_of_the_page(tmp_path, capsys):
    file = tmp_path / "full.yaml"
    file.write_text(yaml.safe_dump(FULL))
    assert main(["run", str(file), "--dry-run"]) == 0
    shown = dict(leaves(yaml.safe_load(capsys.readouterr().out)))
    assert shown.keys() - DEFAULTS.keys() == KINDS, "keys that the page does not have"
    kinds = {key for key in DEFAULTS if key.startswith(("judges.", "sweep"))}
    below = {key for key in DEFAULTS if any(one.startswith(f"{key}.") for one in shown)}
    assert DEFAULTS.keys() - kinds - below - SAME.keys() - shown.keys() == set(), "keys that no configuration has"
    given = {key for key, _ in leaves(FULL)}
    for key in shown.keys() - given - kinds - KINDS:
        default = DEFAULTS[key].strip("`")
        assert default == "required" or json.loads(default) == shown[key], key


def test_a_sweep_has_the_keys_of_the_page(capsys):
    assert main(["tune", str(ROOT / "tune_configs" / "demo.yaml"), "--dry-run"]) == 0
    sweep = yaml.safe_load(capsys.readouterr().out)["sweep"]
    space = sweep.pop("space")
    shown = {key for key, _ in leaves({"sweep": sweep | {"space": next(iter(space.values()))}})} | {"sweep.space"}
    known = {key for key in DEFAULTS if key.startswith("sweep") and key != "sweep.asha"}
    assert shown <= known
    # A key of the space shows the one way in which it is swept.
    assert {key.rpartition(".")[0] for key in known - shown} == {"sweep.space"}
