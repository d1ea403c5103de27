"""What a stranger installs, in an environment of its own and away from this folder: a wheel, and the image's steps."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__")

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of the sources, as a clean checkout has them, beside a new environment; and how commands run in it."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT, folder / "source", ignore=LEFT_OUT)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    kept = {name: value for name, value in os.environ.items() if not re.match("PYTHON|VIRTUAL|RAY_|HF_", name)}
    kept |= {"PATH": f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}", "MOE_SAFETY_CACHE": str(folder / "cache")}

    def run(command, where="elsewhere", **more):
        (folder / where).mkdir(exist_ok=True)
        whole = {"shell": True, "executable": "/bin/bash", "cwd": folder / where, "capture_output": True, "text": True}
        done = subprocess.run(command, env=kept | more, **whole)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return folder, run


@pytest.fixture(scope="module")
def installed(place):
    """The same, with the wheel installed by name, and every package of the versions that are tested."""
    _, run = place
    run("pip wheel --quiet --no-deps -w ../dist .", where="source")
    run("pip install --quiet -c ../source/constraints.txt ../dist/moe_safety-*.whl")
    return place


def test_a_wheel_in_a_clean_environment_runs_the_demo(installed):
    folder, run = installed
    assert "site-packages" in run("python -c 'import moe_safety; print(moe_safety.__file__)'")
    assert run("pip check").strip() == "No broken requirements found."
    said = run("moe-safety demo --out demo")
    assert "selective-routing" in said
    assert (folder / "elsewhere" / "demo" / "report.html").exists()


def test_the_steps_of_the_image_run_and_a_job_resolves_in_it(installed):
    folder, run = installed
    text = re.sub(r"\\\n\s*", "", (ROOT / "deploy" / "Dockerfile").read_text())
    steps = [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    where, environment = "", {}
    for step, said in steps:
        if step == "WORKDIR":
            where = f"image{said}"
            (folder / where).mkdir(parents=True)
        elif step == "COPY":
            *sources, target = [word for word in said.split() if not word.startswith("--")]
            for source in sources:
                copy = shutil.copytree if (folder / "source" / source).is_dir() else shutil.copy
                copy(folder / "source" / source, folder / where / target)
        elif step == "RUN":
            run(said, where)
        elif step == "ENV":
            environment |= dict(pair.split("=") for pair in said.split())
        else:
            assert step in ("ARG", "FROM", "USER")
    assert "run_dir" in run("python ray_jobs/pipeline.py configs/demo.yaml --dry-run", where, **environment)
