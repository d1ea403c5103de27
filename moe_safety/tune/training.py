"""Training sweeps: each trial is a Ray Train run with workers of its own, examined after every round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray import tune

import moe_safety.tune.names  # noqa: F401
from moe_safety.arms import own_arm
from moe_safety.config import Config, Point, SweepFile
from moe_safety.errors import InputError
from moe_safety.evaluate import on_validation
from moe_safety.evaluate.evaluate import evaluate_all, evaluate_beside
from moe_safety.evaluate.evaluated_models import Subject, base_subject
from moe_safety.generation import ENGINES, Ability
from moe_safety.identify.identify import select_by
from moe_safety.jobs.cluster import connect, groups_of_workers
from moe_safety.models.io import check_loadable, skeleton_of
from moe_safety.pipeline import SELECTION
from moe_safety.rundir import RunDir, discard_all
from moe_safety.train.rounds import run_rounds
from moe_safety.train.train import plan_rounds
from moe_safety.tune.objective import safety_measures
from moe_safety.tune.records import Record, Records, work_of
from moe_safety.tune.runner import ERROR, run_trials
from moe_safety.tune.search import ROUND

BESIDE_WORKERS = {"memory": 512 << 20}
"""What a trial itself takes, which only waits for its workers. On a node of one core the smallest share of it would be
missing to them."""


def sweep_training(file: SweepFile, records: Records, *, force: bool = False) -> list[Record]:
    """Examines the base first, whose losses and answers trials are compared with. `force` does all of it again."""
    run, sweep = records.run, file.sweep
    evaluate_all(on_validation(file.config), run, [], force=force)
    if force:
        for stages in ("identify", "evaluate/validation"):
            discard_all(run, f"{stages}/{records.folder}/work/")
    base = run.read_json(f"eval/validation/{base_subject(file.config).name}.json")
    trainable = tune.with_parameters(_trial, file=file, folder=records.folder, base_loss=base["benign_loss"])
    return run_trials(
        sweep,
        records,
        trainable,
        resources=BESIDE_WORKERS,
        at_once=_at_once(file),
        rounds=max(_rounds(file)),
        on_closed=lambda record: _clear(run, work_of(records.folder, record.point)),
    )


def _trial(config: dict[str, Any], file: SweepFile, folder: str, base_loss: float | None) -> None:
    try:
        for found in _examined_rounds(config["point"], file, folder, base_loss):
            tune.report(found)
    except InputError as error:  # Anything else may go better another time: Tune starts it again.
        tune.report({ERROR: str(error), ROUND: 0, **dict.fromkeys(file.sweep.goals, float("nan"))})


def _examined_rounds(
    point: Point, file: SweepFile, folder: str, base_loss: float | None
) -> Iterator[dict[str, float | None]]:
    config = on_validation(_as_a_trial(file.at(point)))
    run, work = RunDir(config.run_dir), work_of(folder, point)
    own, layout = own_arm(config), check_loadable(config.model)
    if own.place:
        raise InputError(f"{own.kind} chooses its experts otherwise than identify.method does", key="train.arm")
    selection = select_by(own.config, work) if own.arm.reads_selection else SELECTION
    plan = plan_rounds(own.arm, own.config, run, layout, work, selection, skeleton_of(config.model))
    for done in run_rounds(plan):
        subject = Subject(done.folder, done.model, whole=done.whole)
        measured = safety_measures(file.sweep, evaluate_beside(config, run, subject), base_loss)
        trained = next(iter(done.outcomes.values()))
        share = trained["trainable_params"] / trained["total_params"]
        yield measured | {"trainable_ratio": share, ROUND: done.number, "rounds": config.train.num_rounds}


def _as_a_trial(config: Config) -> Config:
    """Workers of its own are what a trial of a sweep trains on, and a delta is all that it has to leave, whatever the
    configuration does outside of one."""
    changed = {"launch": "ray"}
    if Ability.SWAPS_DELTA in ENGINES.get(config.evaluate.engine).abilities:
        changed["save"] = "delta"
    return config.model_copy(update={"train": config.train.model_copy(update=changed)})


def _rounds(file: SweepFile) -> list[int]:
    """The numbers of rounds that trials may have."""
    domain = file.sweep.space.get("train.num_rounds")
    if domain is None:
        return [file.config.train.num_rounds]
    return [file.at({"train.num_rounds": end}).train.num_rounds for end in domain.ends()]


def _clear(run: RunDir, work: str) -> None:
    """Models and checkpoints would fill any disk. What they did is measured, and the settings make them again."""
    for name in run.files(work):
        if not name.endswith(".json"):
            run.delete(name)


def _at_once(file: SweepFile) -> int:
    """As many trials as find places for their workers."""
    connect()
    asked = file.sweep.parallel
    return groups_of_workers(file.config.train.num_workers) if asked == "auto" else asked
