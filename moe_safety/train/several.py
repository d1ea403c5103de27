"""Training of several arms, each verified: side by side by replicas or Ray tasks, or one by one in this process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from moe_safety.arms import SeededArm
from moe_safety.config import Config
from moe_safety.errors import InputError, MoeSafetyError, RunError, first_line
from moe_safety.jobs import warnings_to
from moe_safety.models.io import forget_model
from moe_safety.rundir import RunDir, count_imports, is_changed, is_finished, manifest_name, stage_account
from moe_safety.stopping import gently
from moe_safety.train.progress import SideBySide
from moe_safety.train.task import stop_of
from moe_safety.train.train import train_arm, training_of
from moe_safety.train.verified import verify_arm

_ASKS_EVERY = 1.0
"""Seconds between one request to stop and the next."""

Told = Callable[[SeededArm, dict[str, Any]], None]
"""Is told of each arm that was trained elsewhere, with the manifest of `train`; in this process `train` speaks."""


def train_arms(config: Config, arms: Sequence[SeededArm], *, anew: Collection[str], told: Told) -> None:
    """Trains and verifies every arm that is not there yet, or is among those named to be trained `anew`; another that
    is there is only checked."""
    run = RunDir(config.run_dir)
    waiting = [arm for arm in arms if arm.name in anew or not _stands(run, arm)]
    together = len(waiting) > 1 and not _one_by_one(config)
    for arm in arms:
        if arm not in waiting or not together:
            train_and_verify(arm, force=arm.name in anew)
    # Where this process trained, it holds the card that replicas are to fill.
    forget_model()
    if together:
        # What is waited for is told by the arms' own manifests.
        with stage_account():
            _side_by_side(config, waiting, anew, told)


def to_train_anew(config: Config, arms: Sequence[SeededArm], *, elsewhere: bool) -> set[str]:
    """What `--force` means for arms: those whose own settings or inputs changed; all, where nothing did and nothing
    is left to do `elsewhere`. Training is the dearest thing here."""
    run = RunDir(config.run_dir)
    changed = {arm.name for arm in arms if is_changed(run, training_of(arm))}
    return changed if changed or elsewhere else {arm.name for arm in arms}


def train_and_verify(arm: SeededArm, *, force: bool) -> dict[str, Any]:
    """The manifest of the arm's training."""
    manifest = train_arm(arm, force=force)
    verify_arm(arm, manifest["summary"], force=force)
    return manifest


def is_known(run: RunDir, arm: SeededArm, *, again: bool = False) -> bool:
    """Whether what is to be evaluated of it is there; work of another format is not, where it may be done `again`."""
    if not arm.arm.phases:
        return True
    stage = f"train/{arm.name}"
    return is_finished(run, stage, again=again) and all(map(run.exists, run.read_json(manifest_name(stage))["outputs"]))


def _stands(run: RunDir, arm: SeededArm) -> bool:
    return is_finished(run, f"train/{arm.name}") and is_finished(run, f"verify/{arm.name}")


def _one_by_one(config: Config) -> bool:
    """Identifying anew between rounds is a job of its own, which a task that holds a GPU might wait for in vain."""
    settings = config.train
    nested = settings.launch == "process" and settings.num_rounds > 1
    return config.compare.parallel == 1 or nested


def _side_by_side(config: Config, arms: Sequence[SeededArm], anew: Collection[str], told: Told) -> None:
    """As many at a time as there is room for."""
    import ray

    from moe_safety.jobs.cluster import connect, groups_of_workers
    from moe_safety.jobs.pool import release_replicas

    connect()
    run, asked = RunDir(config.run_dir), config.compare.parallel
    room = groups_of_workers(config.train.num_workers) if asked == "auto" else asked
    at_once = min(room, len(arms))
    begin = _beginner(config, at_once)
    running: dict[Any, SeededArm] = {}
    left = in_turn(arms)
    stopping, ended = threading.Event(), threading.Event()

    def folders() -> dict[str, str]:
        return {arm.name: f"train/{arm.name}" for arm in list(running.values())}

    def ask_to_stop() -> None:
        stopping.set()
        # More than once: a phase that begins takes what it finds for a request that was made of an earlier run.
        while not ended.is_set():
            for arm in list(running.values()):
                with suppress(MoeSafetyError):
                    run.write_bytes(stop_of(f"train/{arm.name}"), b"")
            ended.wait(_ASKS_EVERY)

    try:
        watched = SideBySide("train", "arms", run, len(arms), folders)
        with gently(ask_to_stop), watched as progress:
            while True:
                while len(running) < at_once and not stopping.is_set() and (arm := next_of(left, running.values())):
                    left.remove(arm)
                    running[begin(arm, arm.name in anew)] = arm
                if not running:
                    break
                (done, *_), _ = ray.wait(list(running))
                arm = running.pop(done)
                try:
                    result = ray.get(done)
                except ray.exceptions.RayError as error:
                    if isinstance(why := getattr(error, "cause", None), MoeSafetyError):
                        raise why from error
                    raise RunError(f"{arm.name}: its process died: {first_line(error)}") from error
                if "stopped" in result:
                    continue
                for line in result["warned"]:
                    print(f"train {arm.name}: {line}", file=sys.stderr, flush=True)
                told(arm, _manifest(result))
                progress.done += 1
    except BaseException:
        release_replicas()
        raise
    finally:
        ended.set()
        for reference in running:
            ray.cancel(reference)
        for arm in arms if stopping.is_set() else ():
            run.delete(stop_of(f"train/{arm.name}"))


def in_turn(arms: Sequence[SeededArm]) -> list[SeededArm]:
    """Those last that go on from what others make: they are short, and fill what is left of the time."""
    names = {arm.name for arm in arms}
    return sorted(arms, key=lambda arm: arm.begins_as in names)


def next_of(left: Sequence[SeededArm], running: Collection[SeededArm]) -> SeededArm | None:
    """The next arm to begin: the first that goes on from none which has yet to be trained."""
    unfinished = {arm.name for arm in (*left, *running)}
    return next((arm for arm in left if arm.begins_as not in unfinished), None)


def _beginner(config: Config, at_once: int) -> Callable[[SeededArm, bool], Any]:
    """What begins to train an arm: in a replica, which holds what it trains on, or in a task that starts Ray Train
    workers; that holds nothing, and these wait for their places."""
    import ray

    from moe_safety.jobs.cluster import gpus_of_workers
    from moe_safety.jobs.pool import pool_of, release_replicas

    again = config.train.max_failures
    if config.train.launch == "process":
        pool = pool_of(gpus_of_workers(1))
        ray.get(pool.hold.remote(at_once))
        return partial(pool.lend.remote, again + 1, _task)
    release_replicas()
    return ray.remote(_task).options(num_cpus=0, max_retries=again).remote


def _task(arm: SeededArm, force: bool) -> dict[str, Any]:
    """Errors travel as results, so that Ray adds no pages of its own to them."""
    from moe_safety.jobs.pool import release_replicas

    count_imports()
    warned: list[str] = []
    try:
        with warnings_to(warned.append):
            return {"manifest": train_and_verify(arm, force=force), "warned": warned}
    except KeyboardInterrupt:
        return {"stopped": True}
    except MoeSafetyError as error:
        return {"error": type(error).__name__, "message": f"{arm.name}: {error}", "warned": warned}
    finally:
        release_replicas()


def _manifest(result: dict[str, Any]) -> dict[str, Any]:
    if "error" in result:
        raise (InputError if result["error"] == InputError.__name__ else RunError)(result["message"])
    return result["manifest"]
