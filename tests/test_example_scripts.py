"""The scripts of examples/ run as they stand."""

import runpy
import sys

import pytest

from moe_safety.identify import read_selection
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from tests.documents import ROOT
from tests.identify.synthetic import invent, with_settings


@pytest.fixture
def run_script(monkeypatch, tmp_path):
    """Runs a script with these arguments, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def run(name, *argv):
        monkeypatch.setattr(sys, "argv", [name, *argv])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")

    return run


def test_the_library_without_ray_moves_experts_alone(run_script, capsys):
    run_script("library.py")
    *_, last = capsys.readouterr().out.splitlines()
    names = last.removeprefix("changed: ").split(", ")
    assert names
    assert all(".experts." in name for name in names)


def test_a_run_is_read_with_pandas(run_script, capsys, tmp_path):
    config = with_settings(invent().write(tmp_path), method="routing", top_k=2, threshold=0.0)
    run_one("identify", config)
    run_script("read_a_run.py", config.run_dir, "out.png")
    assert f"{len(read_selection(RunDir(config.run_dir)).experts)} selected by routing" in capsys.readouterr().out
    assert (tmp_path / "out.png").stat().st_size > 1000
