"""The generated pages say what the program does now."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import transformers
from transformers import CONFIG_MAPPING

from docs.generate import PAGES, ROOT
from tests.families import FAMILIES, UNSERVED
from tests.test_imports import ROOMS


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_current(name):
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run `make docs`"


def test_no_family_with_experts_is_forgotten():
    models = Path(transformers.__file__).parent / "models"
    with_experts = {
        path.parent.name
        for path in models.glob("*/modeling_*.py")
        if "\n@use_experts_implementation" in path.read_text()
    }
    told = {CONFIG_MAPPING[name].__module__.split(".")[2] for name in (*FAMILIES, *UNSERVED)}
    assert with_experts <= told, f"transformers {version('transformers')}"


def test_the_architecture_tells_the_rooms_in_their_order():
    table = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Rooms\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", cell)) for cell in cells] == ROOMS
