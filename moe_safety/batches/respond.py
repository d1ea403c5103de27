"""`respond`: the base model answers what has no recorded answer, and a judge says which pairs hold."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.batches.encoded import Encoder, in_parts, prompt_room
from moe_safety.batches.respond_job import RECORDED, handler, write_plan
from moe_safety.batches.verdicts import judge_answers, summarise
from moe_safety.config import Config, results_only
from moe_safety.generation import ENGINES, engine_settings, limits_of, opening_of
from moe_safety.generation.items import ANSWERS, at_once, tables_of
from moe_safety.jobs import Job, Parts, Plan, beside, run_job
from moe_safety.judges import check_judge, judge_inputs, make_judge
from moe_safety.models.io import check_loadable, load_chat, model_fingerprint, window_of
from moe_safety.pipeline import PROMPTS, RESPONSES
from moe_safety.pipeline.perform import perform
from moe_safety.rundir import Outcome, RunDir, Work

_PLAN = "plans/respond.parquet"
_FOLDER = "responses/_answers"
_WEIGHED = 32
"""Attacks whose recorded answers are weighed beside the model's own."""


def respond(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `responses/`. The test split is left to `evaluate`."""
    run = RunDir(config.run_dir)
    fingerprint = model_fingerprint(config.model)
    settings = settings_of(config)
    labels = settings["labels"]
    work = Work(
        "respond",
        settings=settings,
        reads=(PROMPTS,),
        others={"model": fingerprint} | judge_inputs(config.judges.refusal) | ENGINES.identity(config.respond.engine),
        folder=_FOLDER,
        keyed=_FOLDER,
    )
    body, check = (
        partial(_respond, config, run, labels, fingerprint),
        beside(partial(check_loadable, config.model), config.respond),
    )
    return perform(config, work, body, check=check, force=force)


def settings_of(config: Config) -> dict[str, Any]:
    """What decides answers and verdicts, beside the prompts and the models."""
    return {
        "seed": config.seed,
        "labels": ["safe", "unsafe", *config.batches.harmless],
        "model": config.model.identity,
        "max_answer": config.batches.max_answer,
        "respond": results_only(config.respond),
        "judges": {"refusal": results_only(config.judges.refusal)},
        **engine_settings(config, config.respond.engine),
    }


def _respond(config: Config, run: RunDir, labels: list[str], fingerprint: str) -> Outcome:
    check_judge(config.judges.refusal)
    table = run.read_table(PROMPTS)
    wanted = pc.and_(pc.not_equal(table["split"], "test"), pc.is_in(table["label"], pa.array(labels)))
    encoder = _encoder(config)
    prompts = [in_parts(row, encoder.chat) for row in table.filter(wanted).to_pylist()]
    if not config.respond.recorded:
        prompts = [row | {"answer": None, "thinking": None} for row in prompts]
    answers, nats = _answer(config, run, prompts, encoder, fingerprint)
    responses = judge_answers(prompts, answers, make_judge(config.judges.refusal), filtering=config.respond.filter)
    run.write_table(RESPONSES, responses)
    return Outcome(outputs=(RESPONSES,), summary=summarise(responses) | nats)


def _encoder(config: Config) -> Encoder:
    """Leaves room for what the model may say."""
    settings, chat = config.respond, load_chat(config.model)
    room = prompt_room(chat, settings.max_length, window_of(config.model), limits_of(settings))
    return Encoder(chat, room, config.batches.max_answer)


def _answer(
    config: Config, run: RunDir, prompts: list[dict[str, Any]], encoder: Encoder, fingerprint: str
) -> tuple[dict[str, dict[str, Any]], dict[str, float | None]]:
    """What the model says to the prompts without an answer, as far as they fit; and how likely it finds recorded
    answers, and its own to the same attacks."""
    plan, settings = Plan(run, _PLAN), config.respond
    asked = str([(row["prompt_id"], row["label"], row["answer"] is None) for row in prompts])
    decided = f"{run.digest('prompts.parquet')} {hashlib.sha256(asked.encode()).hexdigest()}"
    engine = ENGINES.identity(settings.engine) | engine_settings(config, settings.engine)
    answering = results_only(settings.model_copy(update={"filter": True})) | engine
    identity = f"{fingerprint} {config.model.identity} {config.seed} {answering} {config.batches.max_answer} {decided}"
    opening = opening_of(config, settings, config.model)
    if not plan.stands(identity):
        open_, weighed = _asked(prompts, encoder)
        write_plan(plan, open_, weighed, opening, settings, seed=config.seed, identity=identity)
    parts = Parts(run, _FOLDER, plan)
    build = partial(handler, opening, config.batches.max_answer)
    run_job(Job(plan, parts, build, settings, partial(at_once, plan, opening)))
    answers, weights = (
        [row for table in tables_of(parts, kind) for row in table.to_pylist()] for kind in (ANSWERS, RECORDED)
    )
    nats = {name: _median(weights, name) for name in ("recorded_nats", "own_nats")} if weights else {}
    return {row["prompt_id"]: row for row in answers}, nats


def _asked(prompts: list[dict[str, Any]], encoder: Encoder) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The prompts to answer, and the attacks whose recorded answers are weighed, drawn by their ids; of either those
    that fit."""
    unanswered = [row for row in prompts if row["answer"] is None]
    encoded = [row | found for row, found in zip(unanswered, encoder.each(unanswered), strict=True)]
    recorded = [row for row in prompts if row["answer"] and row["label"] == "unsafe"]
    drawn = sorted(recorded, key=lambda row: row["prompt_id"])[:_WEIGHED]
    weighed = [row | found for row, found in zip(drawn, encoder.each(drawn), strict=True)]
    return [row for row in encoded if len(row["prompt_tokens"]) <= encoder.max_length], [
        row for row in weighed if encoder.fits(row)
    ]


def _median(rows: list[dict[str, Any]], name: str) -> float | None:
    known = sorted(row[name] for row in rows if row[name] is not None)
    return float(pc.quantile(pa.array(known))[0].as_py()) if known else None
