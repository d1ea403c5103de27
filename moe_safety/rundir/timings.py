"""Where a stage's seconds go, by what they are spent on.

A thread is at one thing at a time: what runs inside something else counts as the inner thing alone, so that a stage's
seconds add up. What helper threads do beside it is not counted; replicas send theirs home with their results.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

KINDS: Mapping[str, str] = {
    "ray": "starting Ray, or joining it",
    "imports": "importing modules",
    "weights": "reading models",
    "compiling": "compiling the first kernel; others are compiled by the passes that need them",
    "computing": "passes of the model and steps of the optimizer, with what the processor does for them",
    "comparing": "comparing checkpoints",
    "writing": "writing files",
    "hashing": "hashing files",
    "waiting": "waiting for replicas or workers",
    "other": "all else: encoding, planning, judging, folding, drawing",
}
"""What seconds are spent on. `other` is what is told to be of no other kind."""

Seconds = dict[str, float]


class _Clock:
    """What a thread has spent so far."""

    def __init__(self) -> None:
        self.driver, self.replicas = defaultdict[str, float](float), defaultdict[str, float](float)
        self.doing = list[str]()
        self.since = time.perf_counter()
        self.accounts = list[Account]()
        """Of stages that run within each other."""

    def turn(self) -> float:
        """Books the time since the last turn, and returns the time."""
        now = time.perf_counter()
        if self.doing:
            self.driver[self.doing[-1]] += now - self.since
        self.since = now
        return now


_threads = threading.local()


def _clock() -> _Clock:
    """This thread's own."""
    if not hasattr(_threads, "clock"):
        _threads.clock = _Clock()
    return _threads.clock


@contextmanager
def spent(kind: str) -> Iterator[None]:
    """What runs inside is of this kind, but for what is told to be of another in there."""
    clock = _clock()
    clock.turn()
    clock.doing.append(kind)
    try:
        yield
    finally:
        clock.turn()
        clock.doing.pop()


def watched() -> Callable[[], str | None]:
    """Tells, to other threads too, what this thread spends its seconds on at that moment; nothing where nobody said."""
    doing = _clock().doing
    return lambda: next(iter(doing[-1:]), None)


def spent_by_replicas(seconds: Mapping[str, float]) -> None:
    """Counts what a replica or a worker has spent for what this thread does."""
    for kind, value in seconds.items():
        _clock().replicas[kind] += value


class Account:
    """What this thread spends from here on."""

    def __init__(self) -> None:
        self.clock = _clock()
        self.began = self.clock.turn()
        self.then = self.clock.driver.copy(), self.clock.replicas.copy()

    def told(self) -> dict[str, Any]:
        """As a manifest keeps it: the stage's seconds; on what this process spent them, which adds up to them; and the
        sum of what all replicas spent meanwhile."""
        seconds = self.clock.turn() - self.began
        driver, replicas = self.spent()
        driver["other"] = seconds - sum(value for kind, value in driver.items() if kind != "other")
        return {"seconds": seconds, "driver": driver, "replicas": replicas}

    def spent(self) -> tuple[Seconds, Seconds]:
        """By this process, and by replicas, as far as it is told of what kind."""
        self.clock.turn()
        now = self.clock.driver, self.clock.replicas
        driver, replicas = (_since(*pair) for pair in zip(now, self.then, strict=True))
        return driver, replicas


def _since(now: Mapping[str, float], then: Mapping[str, float]) -> Seconds:
    found = {kind: now.get(kind, 0.0) - then.get(kind, 0.0) for kind in KINDS}
    return {kind: seconds for kind, seconds in found.items() if seconds}


@contextmanager
def accounted() -> Iterator[None]:
    """Inside, stages follow each other without a gap: what is done between two of them counts for the later one."""
    count_imports()
    accounts = _clock().accounts
    accounts.append(Account())
    try:
        yield
    finally:
        accounts.pop()


@contextmanager
def stage_account() -> Iterator[Account]:
    """The account of a stage; where stages are `accounted`, it begins where the last one ended."""
    accounts = _clock().accounts
    try:
        yield accounts[-1] if accounts else Account()
    finally:
        if accounts:
            accounts[-1] = Account()


def count_imports() -> None:
    """From here on imports count as such wherever they happen, transformers' and Ray's late ones too. Python has no
    public place to be told of them at."""
    machinery: Any = sys.modules["importlib._bootstrap"]
    if not hasattr(find := machinery._find_and_load, "__wrapped__"):
        machinery._find_and_load = wraps(find)(spent("imports")(find))
