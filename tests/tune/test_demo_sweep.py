"""The demo and then the demo's sweep, in one folder, as the documents say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.soak
def test_the_demo_s_sweep_runs_beside_the_demo(tmp_path):
    for name in ("configs", "tune_configs"):
        (tmp_path / name).symlink_to(ROOT / name)

    def run(*argv):
        command = [sys.executable, "-m", "moe_safety", *argv]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    # The demo up to its selection: its arms are trained and compared by other tests.
    run("run", "configs/demo.yaml", "--set", "compare.arms=[]")
    left = (tmp_path / "runs" / "demo" / "selection.json").read_bytes()
    said = run("tune", "tune_configs/demo.yaml", "--set", "sweep.trials=2")
    folder = tmp_path / "runs" / "demo-sweep" / "tune" / "demo"
    assert "tune: 2 trials: " in said
    assert "tune took " in said
    assert f"next: moe-safety run {folder / 'best.yaml'}" in said
    assert (folder / "results.parquet").exists()
    assert "safety_score" in said
    assert (tmp_path / "runs" / "demo" / "selection.json").read_bytes() == left
    best = yaml.safe_load(run("run", str(folder / "best.yaml"), "--dry-run"))
    assert best["run_dir"] != str(tmp_path / "runs" / "demo-sweep")
    again = run("tune", "tune_configs/demo.yaml", "--set", "sweep.trials=2").splitlines()
    assert again[-3].endswith("(unchanged)"), "one line, and where to look"
