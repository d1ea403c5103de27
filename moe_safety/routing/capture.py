"""`capture`: which experts the tokens of every prompt are routed to."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow.compute as pc

from moe_safety.batches.files import BATCHES, prompts_digest
from moe_safety.config import Config, results_only
from moe_safety.errors import InputError
from moe_safety.jobs import Job, Parts, Plan, run_job
from moe_safety.models.load import check_loadable, load_tokenizer, model_fingerprint
from moe_safety.routing.plan import write_plan
from moe_safety.routing.reader import build_reader
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage

FOLDER = "routing"


def capture(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `routing/`: one table per work item, together a row for every prompt of the batches."""
    layout = check_loadable(config.model)
    run = RunDir(config.run_dir)
    stage = Stage(
        "capture",
        settings={"capture": results_only(config.capture), "max_length": config.batches.max_length},
        others={"prompts": prompts_digest(run), "model": model_fingerprint(config.model)},
        folder=FOLDER,
    )
    body = partial(_capture, config, run, stage, layout.fingerprint())
    manifest = run_stage(run, stage, config.model_dump(mode="json"), body, force=force)
    summary = manifest["summary"]
    print(f"capture: {summary['prompts']} prompts, {summary['tokens']} counted tokens, {summary['items']} work items")
    if summary["uncounted"]:
        print(f"  {summary['uncounted']} prompts have no counted token")
    for item, notes in summary["notes"].items():
        print(f"  item {item}: {notes}")
    return manifest


def _capture(config: Config, run: RunDir, stage: Stage, layout: str) -> Outcome:
    plan = Plan(run, "plans/capture.parquet")
    identity = f"{stage.settings} {stage.others}"
    if not plan.stands(identity):
        with run.open_parquet(BATCHES) as batches:
            if not batches.metadata.num_rows:
                raise InputError("holds no batch", file=run.path(BATCHES))
            tokenizer = load_tokenizer(config.model)
            write_plan(plan, batches, tokenizer, config.capture, config.batches.max_length, identity)
    parts = Parts(run, FOLDER, plan)
    build = partial(build_reader, config.model, config.capture.gpus_per_replica)
    report = run_job(Job(plan, parts, build, config.capture))
    counted = [table["tokens"] for table in parts.tables(columns=["tokens"])]
    summary = {
        "prompts": sum(len(tokens) for tokens in counted),
        "tokens": sum(pc.sum(tokens).as_py() for tokens in counted),
        "uncounted": sum(pc.sum(pc.equal(tokens, 0)).as_py() for tokens in counted),
        "items": len(plan),
        "files": parts.table_names,
        "layout": layout,
        "notes": report.notes,
        "tokens_per_second": report.tokens_per_second,
    }
    return Outcome(outputs=tuple(parts.table_names), summary=summary)
