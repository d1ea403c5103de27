"""Runs a sweep's trials on Ray Tune and keeps a record of each.

What Tune itself stores is not relied on: it is pickled, and written now and then. A sweep that is begun again hands the
records to a new search, and trials that were cut off are tried first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.tune import Callback as TuneCallback
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, TuneError, Tuner

from moe_safety.config import MEASURES, Sweep
from moe_safety.errors import RunError, first_line, last_line
from moe_safety.jobs.cluster import connect
from moe_safety.jobs.pool import release_replicas
from moe_safety.rundir import spent
from moe_safety.train.progress import SideBySide
from moe_safety.tune.outcome import best_of, described
from moe_safety.tune.records import Record, Records, id_of, work_of
from moe_safety.tune.search import ROUND, asha, left_of_plan, optuna_search

ERROR = "error"
"""Under this name a trial that cannot go on reports why; raising would have Tune start it again."""


def run_trials(
    sweep: Sweep,
    records: Records,
    trainable: Any,
    *,
    resources: Mapping[str, float],
    at_once: int,
    rounds: int = 1,
    reuse: bool = False,
    on_closed: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """Tries what is left of the sweep, at most `at_once` trials at a time, and returns all records."""
    before = records.read()
    settings: dict[str, Any] = {"max_concurrent_trials": at_once, "reuse_actors": reuse}
    if sweep.search == "optuna":
        space: dict[str, Any] = {}
        left = max(0, (sweep.trials or 0) - sum(record.is_over for record in before))
        settings |= {"search_alg": optuna_search(sweep, before), "num_samples": left}
    else:
        points = left_of_plan(sweep, before)
        left, space = len(points), {"point": tune.grid_search(points)}
    if not left:
        return before
    settings |= {"scheduler": asha(sweep, rounds, before)}
    recorder = Recorder(sweep, records, before, on_closed)
    # Two loggers and a table on the screen would take longer than a trial.
    os.environ.update({"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"})
    # Ctrl-C ends a sweep as it ends any command: what is finished is recorded, and trials leave checkpoints.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # Paths in the configuration are meant from where the command was given.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    connect()
    release_replicas()
    storage = f"{records.folder}/_ray"
    tuner = Tuner(
        tune.with_resources(trainable, {**resources}),
        param_space=space,
        tune_config=TuneConfig(**settings),
        run_config=RunConfig(
            name="trials",
            storage_path=records.run.path(storage),
            storage_filesystem=records.run.filesystem,
            callbacks=[recorder],
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=sweep.max_failures),
            verbose=0,
        ),
    )
    try:
        with Trials(sweep, records, recorder.known, left), spent("waiting"):
            tuner.fit()
    except (ray.exceptions.RayError, TuneError) as error:
        # The first line says that it failed; of a fault in the driver itself the last one says why.
        told = (last_line if isinstance(error, TuneError) else first_line)(error)
        raise RunError(f"{records.folder}: {told}") from error
    finally:
        records.run.delete_folder(storage)
    return records.read()


class Trials(SideBySide):
    """The progress of a sweep, as its records tell of it."""

    def __init__(self, sweep: Sweep, records: Records, known: Mapping[str, Record], left: int) -> None:
        self.sweep, self.known = sweep, known
        stood, running = len(self._over()), partial(self._running, records.folder)
        super().__init__("tune", "trials", records.run, stood + left, running, stood)

    def line(self, now: float) -> str:
        """With the best so far."""
        self.done = len(self._over())
        return super().line(now)

    def also(self) -> Iterator[str]:
        """The best so far, by what the sweep is after."""
        if best := best_of(self.sweep, self._over()):
            goals = ", ".join(f"{name} {best.last[name]:.3f}" for name in self.sweep.goals)
            yield f"best so far {goals} ({described(self.sweep, best)})"

    def _over(self) -> list[Record]:
        return [record for record in list(self.known.values()) if record.is_over]

    def _running(self, folder: str) -> dict[str, str]:
        at_work = [record for record in list(self.known.values()) if not record.is_over]
        return {described(self.sweep, record): work_of(folder, record.point) for record in at_work}


class Recorder(TuneCallback):
    """Writes each trial's record as it goes on."""

    def __init__(self, sweep: Sweep, records: Records, before: Sequence[Record], on_closed: Any) -> None:
        self.sweep, self.records, self.on_closed = sweep, records, on_closed
        self.known = {record.id: record for record in before}
        self.begun: dict[str, float] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keeps a record of a trial that begins."""
        record = Record(trial.config["point"])
        self.known[record.id] = record
        self.begun.setdefault(record.id, time.monotonic())
        self.records.write(record)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Adds a round's measures to its record, or the error that it ended with."""
        record = self.known[id_of(trial.config["point"])]
        if ERROR in result:
            record.error = result[ERROR]
        elif len(record.results) < result[ROUND]:
            record.results.append({name: result[name] for name in (ROUND, *MEASURES[self.sweep.kind])})
        self.records.write(record)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Closes the record."""
        record = self.known[id_of(trial.config["point"])]
        whole = trial.last_result.get("rounds", 1)
        self._close(record, "failed" if record.error else "finished" if len(record.results) >= whole else "stopped")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Its process died, or it has a fault of ours."""
        record = self.known[id_of(trial.config["point"])]
        told = [line for line in ((trial.error_file and _read(trial.error_file)) or "").splitlines() if line.strip()]
        record.error = told[-1].strip() if told else "its process died"
        self._close(record, "failed")

    def _close(self, record: Record, status: Any) -> None:
        record.status = status
        record.seconds = time.monotonic() - self.begun[record.id]
        self.records.write(record)
        self.on_closed(record)


def _read(file: str) -> str:
    try:
        with open(file) as text:
            return text.read()
    except OSError:
        return ""
