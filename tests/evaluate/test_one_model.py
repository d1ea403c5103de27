"""Arms of the budget curve are trained and evaluated on one model, by deltas: no draw reads the base again."""

import importlib

from moe_safety.arms import budget_arms
from moe_safety.evaluate.evaluate import evaluate_all
from moe_safety.evaluate.evaluated_models import seeded_subject
from moe_safety.jobs import handle as handling
from moe_safety.models.io import forget_model
from moe_safety.pipeline import run_one
from moe_safety.rundir import RunDir
from moe_safety.train.several import train_and_verify
from tests.evaluate import here


def test_a_process_that_trains_and_asks_draws_reads_the_base_once(configured, monkeypatch):
    flags = ["compare.budgets=[1,2]", "compare.draws=2", "train.num_epochs=1", "train.save=delta", "evaluate.prompts=1"]
    flags += [
        "identify.method=random",
        "evaluate.routing_prompts=0",
        "evaluate.reattack=[]",
        "evaluate.reidentify=false",
    ]
    config = configured(*flags)
    run, read = RunDir(config.run_dir), []
    run_one("identify", config)
    arms = [arm for arm in budget_arms(config) if arm.budget == 1 and arm.kind == "random"]
    assert len(arms) == 2
    forget_model()
    for name in ("moe_safety.models.io.kept_model", "moe_safety.train.worker"):
        module = importlib.import_module(name)
        real = module.load_model
        monkeypatch.setattr(module, "load_model", lambda *given, real=real: read.append(given) or real(*given))
    monkeypatch.setattr(handling, "handle", here.handle)
    for arm in arms:
        arm.select()
        train_and_verify(arm, force=False)
    evaluate_all(config, run, [seeded_subject(run, arm) for arm in arms])
    assert all(run.exists(f"train/{arm.name}/delta.safetensors") for arm in arms)
    assert len(read) == 1
