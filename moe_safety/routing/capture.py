"""`capture`: which experts the tokens of every prompt are routed to."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow.compute as pc

from moe_safety.batches.files import check_encoding, prompts_digest
from moe_safety.config import Config, results_only
from moe_safety.errors import InputError
from moe_safety.jobs import Job, Parts, Plan, beside, run_job
from moe_safety.models.io import check_loadable, model_fingerprint
from moe_safety.pipeline import BATCHES
from moe_safety.pipeline.perform import perform
from moe_safety.routing.plan import write_plan
from moe_safety.routing.tokens import TOKENS
from moe_safety.rundir import Outcome, RunDir, Work

FOLDER = "routing"


def capture(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `routing/`: one table per work item, together a row for every prompt of the batches; with
    `capture.per_token` also `routing_tokens/`, a row for every token and layer."""
    run = RunDir(config.run_dir)
    body, check = partial(_capture, config, run), beside(partial(check_loadable, config.model), config.capture)
    return perform(config, _work(config, run), body, check=check, force=force)


def capture_job(config: Config, run: RunDir, place: str = "") -> Job:
    """What the stage hands to its actors. Where its run directory is a folder of another, `run` is that one and `place`
    begins the names there: the captures of several models can then share a pool."""
    from moe_safety.routing.reader import build_reader

    plan, work = Plan(run, f"{place}plans/capture.parquet"), _work(config, RunDir(config.run_dir))
    identity = f"{work.settings} {work.others}"
    if not plan.stands(identity):
        with run.open_parquet(place + BATCHES) as batches:
            if not batches.metadata.num_rows:
                raise InputError("holds no batch", file=run.path(place + BATCHES))
            check_encoding(RunDir(config.run_dir), config.model)
            write_plan(plan, batches, config.capture, identity)
    build = partial(build_reader, config.model, config.capture.gpus_per_replica, config.capture.per_token)
    beside = [place + TOKENS] if config.capture.per_token else []
    return Job(plan, Parts(run, place + FOLDER, plan, *beside), build, config.capture)


def settings_of(config: Config) -> dict[str, Any]:
    """What decides the counts, beside the prompts and the model."""
    return {
        "capture": results_only(config.capture),
        "model": config.model.identity,
    }


def _work(config: Config, run: RunDir) -> Work:
    return Work(
        "capture",
        settings=settings_of(config),
        others={"prompts": prompts_digest(run), "model": model_fingerprint(config.model)},
        behind=(BATCHES,),
        folder=FOLDER,
    )


def _capture(config: Config, run: RunDir) -> Outcome:
    job = capture_job(config, run)
    if not config.capture.per_token:
        # Such as an interrupted run left that kept them.
        run.delete_folder(TOKENS)
    plan, parts, report = job.plan, job.parts, run_job(job)
    counted = [table["tokens"] for table in parts.tables(columns=["tokens"])]
    by_token = [name for folder in parts.beside for name in parts.names_in(folder)]
    summary = {
        "prompts": sum(len(tokens) for tokens in counted),
        "tokens": sum(pc.sum(tokens).as_py() for tokens in counted),
        "uncounted": sum(pc.sum(pc.equal(tokens, 0)).as_py() for tokens in counted),
        "items": len(plan),
        "files": parts.table_names,
        "token_files": by_token,
        "layout": check_loadable(config.model).fingerprint(),
        "notes": report.notes,
        "tokens_per_second": report.tokens_per_second,
    }
    return Outcome(outputs=(*parts.table_names, *by_token), summary=summary)
