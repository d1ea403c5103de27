"""`compose`: the mixed batches with training targets, the one contract of analysis and training."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from moe_safety.batches.files import BATCHES, RESPONSES
from moe_safety.batches.mixed import Row, fill, helpful, make_pairs
from moe_safety.batches.respond import settings_of
from moe_safety.batches.verdicts import why_nothing_is_left
from moe_safety.config import Config, results_only
from moe_safety.errors import InputError
from moe_safety.inputs import check_no_leak
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage
from moe_safety.rundir.stage import check_settings, manifest_name

_ANSWERED = manifest_name("respond")


def compose(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes `batches.parquet` from the training prompts that `respond` kept."""
    run = RunDir(config.run_dir)
    _check_configured(config, run)
    responses = (RESPONSES,) if run.exists(RESPONSES) else ()
    stage = Stage(
        "compose",
        settings={"seed": config.seed, "batches": results_only(config.batches)},
        reads=("prompts.parquet", *responses),
    )
    manifest = run_stage(run, stage, config.model_dump(mode="json"), partial(_compose, config, run), force=force)
    _print(manifest["summary"], config)
    return manifest


def _compose(config: Config, run: RunDir) -> Outcome:
    prompts = run.read_table("prompts.parquet")
    check_no_leak(prompts)
    _check_current(run)
    rows = _with_answers(prompts.filter(pc.equal(prompts["split"], "train")), run)
    pairs = make_pairs(rows, config.seed)
    _check_something_left(config, run, rows)
    composed = fill(pairs, helpful(rows, "benign"), helpful(rows, "control"), config.batches)
    run.write_table(BATCHES, composed.table())
    summary = {
        "batches": len(composed.batches),
        "rows": sum(map(len, composed.batches)),
        "answered_by": "respond" if run.exists(RESPONSES) else "the files alone",
        "leftover": composed.leftover,
        "reused": composed.reused,
    }
    return Outcome(outputs=(BATCHES,), summary=summary)


def _check_configured(config: Config, run: RunDir) -> None:
    """What `respond` left is what it would leave as configured now; kinds of prompt that are not asked for any more may
    have been answered too."""
    if not (run.exists(RESPONSES) and run.exists(_ANSWERED)):
        return
    settings, answered = settings_of(config), run.read_json(_ANSWERED)["settings"]["labels"]
    if set(settings["labels"]) <= set(answered):
        settings["labels"] = answered
    check_settings(run, "respond", settings)


def _check_something_left(config: Config, run: RunDir, rows: list[Row]) -> None:
    """Where verdicts left nothing of a kind, that is said, and not that batches do not fill."""
    if not run.exists(RESPONSES):
        return
    prompts = run.read_table("prompts.parquet", ["prompt_id", "split"])
    here = prompts.filter(pc.equal(prompts["split"], "train"))["prompt_id"]
    responses = run.read_table(RESPONSES)
    responses = responses.filter(pc.is_in(responses["prompt_id"], here))
    wanted = {"unsafe": 1, "benign": config.batches.benign_per_batch, "control": config.batches.control_per_batch}
    left = {row["label"] for row in rows}
    for label in (label for label, count in wanted.items() if count and label not in left):
        if reason := why_nothing_is_left(responses, label):
            raise InputError(reason, file=run.path(RESPONSES))


def _check_current(run: RunDir) -> None:
    """Answers to other prompts would pass for a choice among these."""
    if not (run.exists(RESPONSES) and run.exists(_ANSWERED)):
        return
    if run.read_json(_ANSWERED)["inputs"]["prompts.parquet"] != run.digest("prompts.parquet"):
        raise InputError("are of other prompts; run `respond` again", file=run.path(RESPONSES))


def _with_answers(prompts: pa.Table, run: RunDir) -> list[Row]:
    """The prompts with what the model said; without `respond`, with what the files recorded, none of it judged."""
    if not run.exists(RESPONSES):
        return [{**prompt, "verdict": None} for prompt in prompts.to_pylist()]
    answers = {row["prompt_id"]: row for row in run.read_table(RESPONSES).to_pylist() if row["kept"]}
    found = ((prompt, answers.get(prompt["prompt_id"])) for prompt in prompts.to_pylist())
    return [{**prompt, "answer": answer["answer"], "verdict": answer["verdict"]} for prompt, answer in found if answer]


def _print(summary: dict[str, Any], config: Config) -> None:
    settings = config.batches
    print(
        f"compose: {summary['batches']} batches, {summary['rows']} rows; each {settings.safe_per_batch} safe, "
        f"{settings.unsafe_per_batch} unsafe, {settings.benign_per_batch} benign, {settings.control_per_batch} control"
    )
    print(f"  answers from {summary['answered_by']}")
    for name in ("leftover", "reused"):
        counts = ", ".join(f"{count} {label}" for label, count in summary[name].items() if count)
        print(f"  {name}: {counts or 'none'}")
