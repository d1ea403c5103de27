"""Whose answers are counted: said, measured, and the model's own where that is asked for."""

import json

import pytest

from moe_safety.batches.compose import compose
from moe_safety.batches.respond import respond
from moe_safety.config import load_config
from moe_safety.inputs.prepare import prepare
from moe_safety.models.demo import demo_folder
from moe_safety.rundir import RunDir

pytestmark = pytest.mark.usefixtures("ray_here")


def answered(folder, *flags, answer=None):
    """The demo's attacks, their recorded answers replaced by another where one is given."""
    rows = json.loads((demo_folder() / "attacks.json").read_text())[:40]
    for row in rows:
        row["output"] = answer or row["output"]
    (folder / "attacks.json").write_text(json.dumps(rows))
    given = [f"run_dir={folder / 'run'}", f"data.attacks=[{{path: {folder / 'attacks.json'}}}]", "data.max_samples=40"]
    config = load_config("configs/demo.yaml", [*given, "respond.replicas=1", "respond.filter=false", *flags])
    prepare(config)
    return config, respond(config)["summary"]


def test_answers_of_the_model_itself_are_as_likely_as_its_own(tmp_path, capsys):
    _, summary = answered(tmp_path)
    assert summary["recorded_nats"] == pytest.approx(summary["own_nats"], abs=0.05)
    assert "warning: recorded answers" not in capsys.readouterr().out


def test_answers_of_another_model_are_told_by_respond_and_compose(tmp_path, capsys):
    config, summary = answered(tmp_path, answer="the of to and is a wizard zorp plim the of to and is")
    assert summary["recorded_nats"] - summary["own_nats"] > 0.5
    told = "warning: recorded answers to attacks have"
    assert told in capsys.readouterr().out
    composed = compose(config)["summary"]
    assert told in capsys.readouterr().out
    # Recorded are the attacks' answers and the benign requests'; the model gave the others.
    assert composed["answers"] == {"recorded": 44, "own": 44}


def test_a_model_may_answer_everything_for_itself(tmp_path, capsys):
    config, summary = answered(tmp_path, "respond.recorded=false", answer="the of to and is a wizard zorp plim")
    assert (summary["recorded"], summary["prompts"]) == (0, 128)
    assert "recorded_nats" not in summary
    rows = RunDir(config.run_dir).read_table("responses/responses.parquet").to_pylist()
    assert not any("wizard zorp" in row["answer"] for row in rows)
    assert compose(config)["summary"]["answers"]["recorded"] == 0
    assert "0 recorded in files" in capsys.readouterr().out
