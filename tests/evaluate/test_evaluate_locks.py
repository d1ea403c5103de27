"""Two `evaluate` commands at once: `--force` takes nothing away that the other one is using."""

import pytest

from moe_safety.config import load_config
from moe_safety.errors import RunError
from moe_safety.evaluate.evaluate import evaluate
from moe_safety.evaluate.evaluated_models import base_subject
from moe_safety.evaluate.session import Session
from moe_safety.inputs.prepare import prepare
from moe_safety.models.demo import demo_folder
from moe_safety.rundir import Outcome, RunDir, run_work, stage_lock

PART = "eval/base/_parts/part-000000.parquet"


@pytest.fixture
def config(tmp_path):
    """The base was examined, and another checkpoint is to be."""
    flags = ["data.max_samples=60", f"evaluate.model_path={demo_folder()}", "evaluate.output_name=other"]
    config = load_config("configs/demo.yaml", [f"run_dir={tmp_path}", *flags, "evaluate.reidentify=false"])
    run = RunDir(config.run_dir)
    prepare(config)

    def body():
        run.write_bytes(PART, b"in use")
        return Outcome((), {})

    run_work(run, Session(config, run).stage(base_subject(config)), {}, body)
    return config


@pytest.mark.parametrize(("stage", "shared"), [("evaluate/base", True), ("evaluate/other", False)])
def test_force_waits_for_nobody_and_deletes_nothing_that_is_in_use(config, stage, shared):
    run = RunDir(config.run_dir)
    taken = pytest.raises(RunError, match=f"`{stage.replace('/', '.')}` is being run already by process")
    with stage_lock(run, stage, shared=shared), taken:
        evaluate(config, force=True)
    assert run.read_bytes(PART) == b"in use"
