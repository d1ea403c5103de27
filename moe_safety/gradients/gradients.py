"""`gradients`: which experts would have to change for the unsafe prompts to get their safe answers."""

from __future__ import annotations

from functools import partial
from typing import Any

from moe_safety.batches.files import check_encoding
from moe_safety.config import Config, results_only
from moe_safety.gradients.plan import write_plan
from moe_safety.gradients.table import fold
from moe_safety.jobs import Job, Parts, Plan, beside, run_job
from moe_safety.models.io import check_loadable, model_fingerprint
from moe_safety.pipeline import BATCHES, EXPERT_GRADIENTS
from moe_safety.pipeline.perform import perform
from moe_safety.rundir import Outcome, RunDir, Work

FOLDER = "gradients"


def gradients(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `gradients/`, a row per batch, and `expert_gradients.parquet`, their mean."""
    run = RunDir(config.run_dir)
    work = Work(
        "gradients",
        settings=settings_of(config),
        reads=(BATCHES,),
        others={"model": model_fingerprint(config.model)},
        folder=FOLDER,
    )
    body, check = (
        partial(_gradients, config, run, work),
        beside(partial(check_loadable, config.model), config.gradients),
    )
    return perform(config, work, body, check=check, force=force)


def settings_of(config: Config) -> dict[str, Any]:
    """What decides the gradients, beside the batches and the model."""
    return {
        "gradients": results_only(config.gradients),
        "model": config.model.identity,
    }


def _gradients(config: Config, run: RunDir, work: Work) -> Outcome:
    from moe_safety.gradients.collector import build_collector

    layout = check_loadable(config.model)
    plan = Plan(run, "plans/gradients.parquet")
    identity = f"{work.settings} {run.digest(BATCHES)} {work.others}"
    if not plan.stands(identity):
        with run.open_parquet(BATCHES) as batches:
            check_encoding(run, config.model)
            write_plan(plan, batches, identity)
    parts = Parts(run, FOLDER, plan)
    report = run_job(Job(plan, parts, partial(build_collector, config.model, config.gradients), config.gradients))
    run.write_table(EXPERT_GRADIENTS, fold(parts.tables(), layout))
    summary = {
        "batches": len(plan),
        "files": parts.table_names,
        "layout": layout.fingerprint(),
        "notes": report.notes,
        "tokens_per_second": report.tokens_per_second,
    }
    return Outcome(outputs=(*parts.table_names, EXPERT_GRADIENTS), summary=summary)
