"""docs/arms.md has every arm, with its idea, its source, its cost and what it may change."""

import re
from collections import Counter
from pathlib import Path

import pytest

from moe_safety.arms import ARMS

TABLE = re.findall(r"^\|(.*)\|$", Path("docs/arms.md").read_text().partition("\n## ")[0], re.MULTILINE)
HEAD, _, *ROWS = [[cell.strip() for cell in row.split("|")] for row in TABLE]
ROW = {name: dict(zip(HEAD, row, strict=True)) for row in ROWS for name in re.findall("`(.+?)`", row[0])}
OURS = ARMS.own()


def test_every_arm_has_one_row_and_nothing_else_has():
    named = Counter(name for row in ROWS for name in re.findall("`(.+?)`", row[0]))
    assert named == Counter(arm.name for arm in OURS)


@pytest.mark.parametrize("arm", OURS, ids=lambda arm: arm.name)
def test_a_row_says_what_its_arm_says(arm):
    row = ROW[arm.name]
    idea, changes = row["what trains"], row["may change"]
    assert all((idea, row["source"], row["cost"], changes))
    assert (row["cost"] == "0") == idea.startswith("nothing") == (changes == "nothing") == (not arm.phases)
    assert bool(row["idea: its experts"]) == (arm.choice is not None)
    for word in ("routers", "everything", "attention", "shared experts"):
        assert (word in changes) == any(word in part for part in arm.may_change), word
    assert ("them" in changes.split()) == ("experts" in arm.may_change)
    assert not arm.is_control or row["controls for"]
