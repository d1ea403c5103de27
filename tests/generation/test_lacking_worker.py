"""A worker on a host that lacks another package."""

import json
import os
import pickle
import subprocess
import sys
from functools import partial

import moe_safety
from moe_safety.config import ModelConfig
from moe_safety.generation import ENGINES, Limits
from moe_safety.generation.engine import Opening
from moe_safety.jobs import Plan
from moe_safety.jobs.replica import RemoteJob
from moe_safety.rundir import RunDir
from tests.packages import bring

BROUGHT = """
from moe_safety.config import Section
from moe_safety.generation import Engine

class Words(Section):
    helpful: str = "sure"

class Canned(Engine):
    name = "canned"
    section = Words

    def __init__(self, model, limits, gpus, settings):
        super().__init__(model, limits, gpus)
        self.helpful = settings.helpful

    def answer(self, prompts, temperatures, seeds):
        return []
"""

WORKER = """
import json, pickle, sys
from moe_safety.jobs.replica import Replica

with open(sys.argv[1], "rb") as file:
    job = pickle.load(file)  # As Ray gives it to a worker: the name of what is to be built, and no code.
print(json.dumps(Replica().handle("ticket", [job], 0, [0])))
"""


def handled(job, folder, *path):
    """What a replica says of the job's first item, in a process that finds modules here alone."""
    (folder / "job.pickle").write_bytes(pickle.dumps(job))
    found = os.pathsep.join([os.path.dirname(moe_safety.__path__[0]), *map(str, path)])
    command = [sys.executable, "-c", WORKER, str(folder / "job.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": found}, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_it_says_so_in_one_line_with_the_remedy(tmp_path, monkeypatch):
    bring(ENGINES, tmp_path, monkeypatch, "lacking_engine", BROUGHT, canned="Canned")
    run = RunDir(str(tmp_path / "run"))
    run.write_bytes(Plan(run, "plan.parquet").name, b"")
    opening = Opening("canned", ModelConfig(name="demo"), Limits(4), 1, {"canned": {"helpful": "gladly"}})
    assert opening.open("canned").helpful == "gladly"
    job = RemoteJob(run, "plan.parquet", ("parts",), partial(opening.open, "canned"), None)
    told = handled(job, tmp_path)
    assert (told["error"], told["broken"]) == ("InputError", False)
    assert told["message"].startswith("there is no engine 'canned'. Known: ")
    assert told["message"].endswith("; a package that brings it has to be installed on every host")
    assert "\n" not in told["message"]
    # Where it has the package it comes as far as the plan, which is empty.
    assert "no engine" not in handled(job, tmp_path, tmp_path)["message"]
