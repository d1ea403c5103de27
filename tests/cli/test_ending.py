"""What a command says comes next."""

import pytest

from moe_safety.cli.ending import next_lines
from moe_safety.cli.stages import DEMO_CONFIG
from moe_safety.everything import load_config
from moe_safety.rundir import RunDir


@pytest.fixture
def config(tmp_path):
    """The demo's."""
    return load_config(DEMO_CONFIG, [f"run_dir={tmp_path}"])


@pytest.mark.parametrize(
    ("stage", "later"),
    [("prepare", "respond"), ("identify", "compare"), ("train", "evaluate"), ("evaluate", "compare")],
)
def test_each_stage_names_what_comes_after_it(config, stage, later):
    """`run` needs neither `train` nor `evaluate`, which are for one arm."""
    assert list(next_lines(config, "my-run.yaml", stage)) == [
        f"next: moe-safety {later} my-run.yaml (or `run`, which does all that is left)"
    ]


def test_what_is_not_there_is_not_to_be_looked_at(config):
    """A report is made of whatever stages are there, comparisons or none."""
    for name, left in (("report.html", ["report.html"]), ("comparison.md", ["report.html", "comparison.md"])):
        RunDir(config.run_dir).write_bytes(name, b"")
        (line,) = next_lines(config, "my-run.yaml", "report")
        assert line == f"look at: {', '.join(f'{config.run_dir}/{one}' for one in left)}"
