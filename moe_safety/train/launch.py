"""Runs a phase: in this process, or on Ray Train workers."""

from __future__ import annotations

import os
import sys
import uuid
from contextlib import suppress
from functools import partial
from typing import Any

from moe_safety.errors import InputError, MoeSafetyError, RunError, first_line, last_line
from moe_safety.rundir import Account, RunDir, count_imports, spent, spent_by_replicas
from moe_safety.stopping import gently, own_handlers
from moe_safety.train.log_relay import listening
from moe_safety.train.progress import PhaseProgress
from moe_safety.train.task import Task


def run_phase(task: Task) -> dict[str, Any]:
    """The phase's outcome; found where the phase is done already, be it by another arm, made otherwise."""
    run = RunDir(task.config.run_dir)
    if done := _stored(run, task) or _made_by_another(run, task):
        return done
    run.delete(task.outcome)
    run.delete(task.stop)
    run.delete(task.reached)
    try:
        with PhaseProgress(run, task):
            _make(run, task)
        if run.exists(task.stop) and not run.exists(task.outcome):
            raise KeyboardInterrupt
    finally:
        run.delete(task.stop)
    if not run.exists(task.outcome):
        raise RunError(f"{task.folder} ended without an outcome")
    outcome = run.read_json(task.outcome)
    if "error" in outcome:
        run.delete(task.outcome)
        raise InputError(outcome["error"]) if outcome["exit_code"] == 2 else RunError(outcome["error"])
    if task.config.train.launch != "process":
        spent_by_replicas(outcome["spent"])
    return outcome


def _make(run: RunDir, task: Task) -> None:
    if task.config.train.launch != "process":
        return _on_ray(run, task)
    from moe_safety.jobs import free_cards
    from moe_safety.train.worker import work

    free_cards()
    work(task, Account())


def _stored(run: RunDir, task: Task) -> dict[str, Any] | None:
    if not run.exists(task.outcome):
        return None
    stored = run.read_json(task.outcome)
    if stored["identity"] != task.identity or "error" in stored:
        return None
    files = stored["files"]
    if task.config.train.save == "model" and not any(name.startswith(f"{task.model_folder}/") for name in files):
        return None
    return stored if all(map(run.exists, files)) and run.digests(files) == files else None


def _made_by_another(run: RunDir, task: Task) -> dict[str, Any] | None:
    """The outcome of another arm's phase that took the same steps, which becomes this one's, with all that it left."""
    if not task.made_in or not run.exists(there := f"{task.made_in}/outcome.json"):
        return None
    stored = run.read_json(there)
    if stored.get("steps") != task.steps or "error" in stored or not all(map(run.exists, stored["files"])):
        return None
    run.delete_folder(task.folder)
    names = {name: f"{task.folder}{name.removeprefix(task.made_in)}" for name in run.files(task.made_in)}
    names.pop(there)
    for name, own in names.items():
        run.link(name, own)
    files = {names[name]: digest for name, digest in stored["files"].items()}
    run.write_json(task.outcome, stored | task.known_by | {"files": files, "made_in": task.made_in})
    return _stored(run, task)


def _on_ray(run: RunDir, task: Task) -> None:
    """Ray Train starts the workers, and starts them again when one dies; they go on from their own checkpoints.

    Where its controller fails, which looks after them, it is started again here, with workers of its own.
    """
    from ray.train import ControllerError

    from moe_safety.jobs.cluster import connect

    # On a busy machine workers take longer to start than Ray would wait.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    # Paths in the configuration are meant from where the command was given.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    connect()
    for starts_left in reversed(range(task.config.train.max_failures + 1)):
        try:
            with gently(partial(run.write_bytes, task.stop, b"")), listening(run, task.told), spent("waiting"):
                _fit(run, task)
            return
        except MoeSafetyError:
            raise
        except Exception as error:
            if run.exists(task.outcome):
                # Workers have done their work, or one has left the reason why not, which tells more than this.
                return
            # Ray's first line says that it failed, the last one why.
            failed = f"{task.folder}: {first_line(error)} {last_line(error)}"
            if not (starts_left and isinstance(error, ControllerError)):
                raise RunError(failed) from error
            print(f"{failed}; starting again", file=sys.stderr)


def _fit(run: RunDir, task: Task) -> None:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from moe_safety.jobs.cluster import gpus_of_workers
    from moe_safety.jobs.pool import release_replicas

    class Trainer(TorchTrainer):
        """Leaves Ctrl-C to this program: Ray's own handler ends the workers at once."""

        controller: Any = None

        def _register_sigint_handler(self, controller: Any) -> None:
            self.controller = controller

    settings, storage = task.config.train, f"{task.folder}/_ray"
    release_replicas()
    on_gpu = bool(gpus_of_workers(settings.num_workers))
    trainer = Trainer(
        _on_worker,
        train_loop_config={"task": task},
        scaling_config=ScalingConfig(num_workers=settings.num_workers, use_gpu=on_gpu),
        run_config=RunConfig(
            # A new name each time: a finished one would silently do nothing.
            name=uuid.uuid4().hex,
            storage_path=run.path(storage),
            storage_filesystem=run.filesystem,
            failure_config=FailureConfig(max_failures=settings.max_failures),
        ),
    )
    try:
        with own_handlers():
            trainer.fit()
    except KeyboardInterrupt:
        # Else the workers would train on.
        with suppress(ray.exceptions.RayError):
            ray.get(trainer.controller.abort.remote(), timeout=_PATIENCE)
        raise
    finally:
        run.delete_folder(storage)


_PATIENCE = 10.0
"""Seconds in which workers are to end that are not to end well."""


def _on_worker(settings: dict[str, Any]) -> None:
    count_imports()
    account = Account()
    from moe_safety.train.worker import work

    work(settings["task"], account)
