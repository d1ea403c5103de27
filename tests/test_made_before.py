"""A stage that is run alone, with other settings than those that made what it reads, says so."""

import pytest

from moe_safety.batches.compose import settings_of
from moe_safety.config import load_config, results_only
from moe_safety.effects.effects import effects
from moe_safety.errors import InputError
from moe_safety.evaluate.evaluate import evaluate
from moe_safety.gradients.gradients import gradients
from moe_safety.pipeline import BATCHES, PROMPTS, SELECTION
from moe_safety.routing.capture import capture
from moe_safety.rundir import Outcome, RunDir, Work, is_finished, run_work
from moe_safety.train.train import train
from tests.train import byhand

ALONE = {"capture": capture, "gradients": gradients, "effects": effects, "train": train, "evaluate": evaluate}


@pytest.fixture
def made(tmp_path):
    """A run directory with the manifests of what stands in it; makes its configuration, with changes."""
    folder, flags = tmp_path / "run", ["train.num_epochs=1"]
    config, run = byhand.configured(folder, [(0, 1), (2, 3)], *flags), RunDir(str(folder))
    for name, work in {
        PROMPTS: Work("prepare", {"seed": 42, "data": results_only(config.data)}),
        BATCHES: Work("compose", settings_of(config), reads=(PROMPTS,)),
        SELECTION: Work("identify", {"identify": results_only(config.identify)}, reads=(BATCHES,)),
    }.items():
        run_work(run, work, {}, lambda name=name: Outcome((name,), {}))
    flags += [f"run_dir={folder}", "train.launch=process", "train.learning_rate=1e-2"]
    return lambda *changes: load_config("configs/demo.yaml", [*flags, *changes])


@pytest.mark.parametrize(
    ("stage", "change", "told"),
    [
        (
            "capture",
            "batches.max_answer=9",
            r"`compose` was run with batches\.max_answer = \d+, now 9; run `compose`",
        ),
        (
            "capture",
            "data.test_fraction=0.4",
            r"`prepare` was run with data\.test_fraction = 0\.\d+, now 0\.4",
        ),
        ("gradients", "batches.benign_per_batch=3", r"`compose` was run with batches\.benign_per_batch = \d, now 3"),
        ("effects", "batches.group_by=source", r"`compose` was run with batches\.group_by = \w+, now source"),
        ("train", "batches.max_length=100", r"`compose` was run with batches\.max_length = \d+, now 100"),
        ("train", "data.only_successful=false", r"`prepare` was run with data\.only_successful = True, now False"),
        ("train", "identify.top_k=3", r"`identify` was run with identify\.top_k = \d+, now 3; run `identify` again"),
    ],
)
def test_a_stage_alone_says_that_what_it_reads_was_made_otherwise(made, stage, change, told):
    with pytest.raises(InputError, match=told) as error:
        ALONE[stage](made(change))
    assert "\n" not in str(error.value)
    assert not is_finished(RunDir(made().run_dir), stage)


def test_what_was_trained_is_evaluated_as_it_was_trained(made):
    train(made())
    with pytest.raises(InputError, match=r"`compose` was run with batches\.max_answer"):
        train(made("batches.max_answer=9"))
    train(made("data.validation_fraction=0.1", "respond.temperature=0.5", "seed=42"))
    with pytest.raises(InputError, match=r"`train/[\w-]+` was run with train\.num_epochs = 1, now 2; run `train/"):
        evaluate(made("train.num_epochs=2"))


def test_held_out_prompts_are_those_of_the_split_that_was_made(configured):
    with pytest.raises(InputError, match=r"`prepare` was run with data\.test_fraction"):
        evaluate(configured("data.test_fraction=0.4", "evaluate.model_path=demo"))
