"""`respond`: the base model answers what has no recorded answer, and a judge says which pairs hold."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.batches.answers import Answerer, Limits, plan_answers
from moe_safety.batches.files import RESPONSES
from moe_safety.batches.verdicts import judge_answers, summarise
from moe_safety.config import Config, results_only
from moe_safety.jobs import Job, Parts, Plan, run_job
from moe_safety.judges import check_judge, judge_inputs, make_judge
from moe_safety.models.load import check_loadable, load_tokenizer, model_fingerprint
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage

_PLAN = "plans/respond.parquet"
_FOLDER = "responses/_answers"


def respond(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `responses/`. The test split is left to `evaluate`."""
    run = RunDir(config.run_dir)
    fingerprint = model_fingerprint(config.model)
    settings = settings_of(config)
    labels = settings["labels"]
    stage = Stage(
        "respond",
        settings=settings,
        reads=("prompts.parquet",),
        others={"model": fingerprint} | judge_inputs(config.judge),
        folder=_FOLDER,
        keyed=_FOLDER,
    )
    body, check = partial(_respond, config, run, labels, fingerprint), partial(check_loadable, config.model)
    manifest = run_stage(run, stage, config.model_dump(mode="json"), body, check=check, force=force)
    _print(manifest)
    return manifest


def settings_of(config: Config) -> dict[str, Any]:
    """What decides answers and verdicts, beside the prompts and the models."""
    return {
        "seed": config.seed,
        "labels": _labels(config),
        "model": {"dtype": config.model.dtype},
        "respond": results_only(config.respond),
        "judge": results_only(config.judge),
    }


def _labels(config: Config) -> list[str]:
    """The kinds of prompt that batches will hold."""
    counts = {"benign": config.batches.benign_per_batch, "control": config.batches.control_per_batch}
    return ["safe", "unsafe", *(label for label, count in counts.items() if count)]


def _respond(config: Config, run: RunDir, labels: list[str], fingerprint: str) -> Outcome:
    check_judge(config.judge)
    prompts = run.read_table("prompts.parquet")
    wanted = pc.and_(pc.not_equal(prompts["split"], "test"), pc.is_in(prompts["label"], pa.array(labels)))
    prompts = prompts.filter(wanted)
    answers = _answer(config, run, prompts.filter(pc.is_null(prompts["answer"])), fingerprint)
    responses = judge_answers(prompts, answers, make_judge(config.judge), filtering=config.respond.filter)
    run.write_table(RESPONSES, responses)
    return Outcome(outputs=(RESPONSES,), summary=summarise(responses))


def _answer(config: Config, run: RunDir, prompts: pa.Table, fingerprint: str) -> dict[str, str]:
    settings = config.respond
    limits = Limits(settings.max_length, settings.max_new_tokens, settings.max_tokens_per_forward)
    sampled = {"safe", "unsafe"}
    temperatures = [settings.temperature if label in sampled else 0.0 for label in prompts["label"].to_pylist()]
    plan = Plan(run, _PLAN)
    asked = str(list(zip(prompts["prompt_id"].to_pylist(), temperatures, strict=True)))
    decided = f"{run.digest('prompts.parquet')} {hashlib.sha256(asked.encode()).hexdigest()}"
    identity = f"{fingerprint} {config.model.dtype} {config.seed} {limits} {decided}"
    if not plan.stands(identity):
        tokenizer = load_tokenizer(config.model)
        plan_answers(plan, prompts, temperatures, tokenizer, limits, seed=config.seed, identity=identity)
    parts = Parts(run, _FOLDER, plan)
    build = partial(Answerer, config.model, settings.gpus_per_replica, limits)
    run_job(Job(plan, parts, build, settings))
    found: dict[str, str] = {}
    for table in parts.tables():
        found |= dict(zip(table["prompt_id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    return found


def _print(manifest: dict[str, Any]) -> None:
    summary = manifest["summary"]
    print(f"respond: {summary['prompts']} prompts, {summary['recorded']} with a recorded answer" + _unchanged(manifest))
    for name in ("verdicts", "dropped", "kept"):
        counts = ", ".join(f"{key} {count}" for key, count in summary[name].items())
        print(f"  {name}: {counts or 'none'}")
    if too_long := summary["too_long_to_judge"]:
        print(f"  {too_long} questions were too long for the judge, which gave them no verdict")
    for pair, kappa in summary.get("agreement", {}).items():
        print(f"  agreement of {pair}: {'n/a' if kappa is None else f'{kappa:.2f}'} (Cohen's kappa)")


def _unchanged(manifest: dict[str, Any]) -> str:
    return " (unchanged)" if manifest["skipped"] else ""
