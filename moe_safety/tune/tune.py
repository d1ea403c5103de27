"""`tune`: a sweep, under `tune/NAME/`. Trials see training and validation prompts alone."""

from __future__ import annotations

from functools import partial
from typing import Any

from moe_safety.arms import arm_of
from moe_safety.config import Config, SweepFile, dump_config, results_only
from moe_safety.errors import RunError
from moe_safety.evaluate import on_validation
from moe_safety.evaluate.required_prompts import check_asked
from moe_safety.judges import judges_inputs, judges_settings
from moe_safety.models.io import model_fingerprint
from moe_safety.pipeline import BATCHES, PROMPTS, run_one
from moe_safety.rundir import Account, Outcome, RunDir, Work, count_imports, run_work
from moe_safety.scores import score_tables
from moe_safety.tune.objective import asked_by
from moe_safety.tune.outcome import BEST, RESULTS, best_of, ranked, results_table
from moe_safety.tune.printing import print_summary
from moe_safety.tune.records import Record, Records


def tune(file: SweepFile, *, force: bool = False) -> dict[str, Any]:
    """Writes `tune/NAME/results.parquet`, and `best.yaml`, which is ready to run. What trials need is made first."""
    config, sweep, run = file.config, file.sweep, RunDir(file.config.run_dir)
    count_imports()
    account = Account()
    run_one("prepare", config)
    if sweep.kind == "training":
        check_asked(on_validation(config), run, asked_by(sweep))
    for needed in _before(file):
        run_one(needed, config)
    tables = [name for name in score_tables() if run.exists(name)]
    folder = f"tune/{file.name}"
    judged = judges_inputs(config.judges) if sweep.kind == "training" else {}
    stage = Work(
        folder,
        settings={
            "seed": config.seed,
            "sweep": results_only(sweep),
            "identify": results_only(config.identify),
            "model": config.model.identity,
            **(_of_training(config) if sweep.kind == "training" else {}),
        },
        reads=(PROMPTS, BATCHES, *tables),
        others={"model": model_fingerprint(config.model)} | judged,
        folder=folder,
    )
    body = partial(_tune, file, Records(run, folder), force)
    manifest = run_work(run, stage, config.model_dump(mode="json"), body, force=force)
    print_summary(file, manifest)
    return manifest | {"took": account.told()}


def _of_training(config: Config) -> dict[str, Any]:
    sections = {"train": config.train, "evaluate": on_validation(config).evaluate}
    found = {name: results_only(section) for name, section in sections.items()}
    return {**found, "judges": judges_settings(config.judges), **arm_of(config).decides(config)}


def _before(file: SweepFile) -> list[str]:
    """The stages after `prepare` that some trial reads from."""
    collected = dict.fromkeys(["capture", *(score.reads.stage for score in file.scores)])
    return ["respond", "compose", *collected, "identify"]


def _tune(file: SweepFile, records: Records, force: bool) -> Outcome:
    run, sweep = records.run, file.sweep
    if sweep.kind == "selection":
        from moe_safety.tune.selection.ground import read_ground
        from moe_safety.tune.selection.held_out import capture_held_out
        from moe_safety.tune.selection.sweep import sweep_selections

        held_out = capture_held_out(file.config, run)
        found = sweep_selections(file, records, read_ground(file.config, run, held_out))
    else:
        from moe_safety.tune.training import sweep_training

        found = sweep_training(file, records, force=force)
    results, best = f"{records.folder}/{RESULTS}", best_of(sweep, found)
    run.write_table(results, results_table(sweep, found))
    if best is None:
        failed = next((record.error for record in found if record.error), "none came to its end")
        raise RunError(f"{records.folder}: no trial can be called the best: {failed}")
    run.write_bytes(f"{records.folder}/{BEST}", _ready_to_run(file, run, best).encode())
    counts = {status: sum(record.status == status for record in found) for status in ("finished", "stopped", "failed")}
    summary = {
        "trials": len(found),
        **counts,
        "best": {"trial": best.id, "point": best.point, **best.last},
        "order": [record.id for record in ranked(sweep, found)],
    }
    return Outcome(outputs=(results, f"{records.folder}/{BEST}"), summary=summary)


def _ready_to_run(file: SweepFile, run: RunDir, best: Record) -> str:
    """With a run directory of its own: another selection is another run."""
    config = file.at(best.point).model_copy(update={"run_dir": run.uri_of(f"best/{file.name}")})
    return f"# The best of {len(best.point)} swept settings: trial {best.id} of {file.name}.\n{dump_config(config)}"
