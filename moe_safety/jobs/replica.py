"""A replica: a Ray worker with a model in its memory, which handles one work item at a time, or several at once where
its handler gains from that."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from moe_safety.errors import InputError, MoeSafetyError, RunError
from moe_safety.jobs.job import Handler, Joining
from moe_safety.jobs.parts import Part, Parts
from moe_safety.jobs.plan import Plan
from moe_safety.jobs.progress import phase_of
from moe_safety.jobs.warned import warnings_to
from moe_safety.jobs.watchdog import Watchdog, was_tried
from moe_safety.rundir import Account, RunDir, count_imports, spent, watched


@dataclass(frozen=True)
class RemoteJob:
    """A job as replicas need it."""

    run: RunDir
    plan: str
    folders: tuple[str, ...]
    build: Callable[[], Handler]
    item_timeout: float | None

    @property
    def parts(self) -> Parts:
        """The parts of the job, as they stand in the run directory."""
        return Parts(self.run, self.folders[0], Plan(self.run, self.plan), *self.folders[1:])


def result_of(items: Sequence[int], error: MoeSafetyError | None = None) -> dict[str, Any]:
    """What is told of items on their way to the driver: an error, as far as there is one, and what was done."""
    kind, message = (type(error).__name__, str(error)) if error else ("", "")
    told = {"error": kind, "message": message, "broken": False}
    return {"items": len(items), "rows": 0, "tokens": 0, "worked": 0.0, "spent": "{}", "warned": "[]"} | told


class Replica:
    """Stays from one job to the next, and with it the model that it loaded last. Errors travel as results, so that Ray
    adds no pages of its own to them."""

    def __init__(self, pool: Any = None) -> None:
        """Tells the pool, where there is one, what it is at."""
        count_imports()
        self.account = Account()
        if pool is not None:
            threading.Thread(target=_tell, args=(pool, self.place(), watched()), daemon=True).start()
        import torch

        # What every item needs: nobody's time limit runs yet.
        from moe_safety.jobs import item_halving  # noqa: F401

        # Work is spread by replicas; one thread each keeps sums, and so results, the same on any machine.
        torch.set_num_threads(1)
        self.ticket = ""
        self.began: float | None = None
        """When work on the ticket began, with everything there that it needs."""
        self.held: tuple[int, Parts, Handler] | None = None
        self.at = 0
        """The item that is made."""

    def place(self) -> tuple[str, int]:
        """The host and the process."""
        return socket.gethostname(), os.getpid()

    def prepare(self, first: Callable[[], Any]) -> None:
        """Does what the stage does first, for its imports alone: the stage itself tells what is wrong."""
        with suppress(Exception):
            first()

    def call(self, function: Callable[..., Any], *given: Any) -> Any:
        """Something else, which accounts for its own seconds."""
        self.held = None
        try:
            return function(*given)
        finally:
            self.account = Account()

    def handle(self, ticket: str, jobs: Sequence[RemoteJob], job: int, items: Sequence[int]) -> dict[str, Any]:
        """Does items of one of the ticket's jobs. `broken` in the result says that this process is not to be trusted
        any more."""
        if ticket != self.ticket:
            self.held, self.began = None, None
            self.ticket = ticket
        warned: list[str] = []
        with spent("other"), warnings_to(warned.append):
            try:
                result = result_of(items) | self._do(jobs[job], job, items)
            except MoeSafetyError as error:
                result = result_of(items, error)
        return result | {"spent": json.dumps(self._spent()), "warned": json.dumps(warned)}

    def _spent(self) -> dict[str, float]:
        """By kind of work, since the last item; what follows the first item's start belongs to it."""
        account, self.account = self.account, Account()
        return account.spent()[0]

    def _do(self, work: RemoteJob, job: int, items: Sequence[int]) -> dict[str, Any]:
        parts, self.at = work.parts, items[0]
        rows = tokens = 0
        try:
            _check_shared(parts)
            # Where a process ended or hung at one of them, it is to be seen at which.
            careful = len(items) > 1 and any(was_tried(parts, item) for item in items)
            for some in _each_left(parts, items) if careful else [items]:
                self.at = some[0]
                done = self._do_at_once(work, job, parts, some)
                rows, tokens = rows + done[0], tokens + done[1]
            return {"rows": rows, "tokens": tokens, "worked": time.monotonic() - (self.began or 0.0)}
        except MoeSafetyError:
            raise
        except Exception as error:  # The boundary of the process: whatever it was, the driver tells it.
            log = f"{parts.folder}/_errors/part-{self.at:06d}.txt"
            parts.run.write_bytes(log, traceback.format_exc().encode())
            line = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
            return {"error": RunError.__name__, "message": f"{parts.run.path(log)}: {line}", "broken": True}

    def _do_at_once(self, work: RemoteJob, job: int, parts: Parts, items: Sequence[int]) -> tuple[int, int]:
        """Leaves the part of each; returns how many rows and tokens they were."""
        from moe_safety.jobs.item_halving import made_of

        # Where several do not come to their end, each is tried by itself: a note on the last one is enough.
        with Watchdog(parts, items[-1], work.item_timeout) as watchdog:
            notes: list[dict[str, Any]] = [*({} for _ in items[1:]), dict(watchdog.notes)]
            parts, handler = self._handler(job, work, parts)
            rows = [parts.plan.rows(item) for item in items]
            self.began = self.began or time.monotonic()
            # The first part may take all of them, or the next one's work beside its own.
            watchdog.wait(len(items) if isinstance(handler, Joining) else min(2, len(items)))
            with spent("computing"):
                self._commit(parts, items, made_of(parts, items, handler, rows, notes), notes, watchdog)
        return sum(map(len, rows)), sum(map(handler.tokens, rows))

    def _commit(
        self,
        parts: Parts,
        items: Sequence[int],
        made: Iterator[Part],
        notes: Sequence[dict[str, Any]],
        watchdog: Watchdog,
    ) -> None:
        """Commits the parts in their order, each while the next one is made."""
        following = [*items[1:], items[-1]]
        with ThreadPoolExecutor(1) as beside:
            writing: Future[None] | None = None
            for item, part, noted, self.at in zip(items, made, notes, following, strict=True):
                watchdog.wait()
                if writing:
                    with spent("writing"):
                        writing.result()
                if item == items[-1]:
                    parts.commit(item, part, noted)
                else:
                    writing = beside.submit(parts.commit, item, part, noted)

    def _handler(self, job: int, work: RemoteJob, parts: Parts) -> tuple[Parts, Handler]:
        """The handler at hand is that of the job that was worked on last."""
        if self.held is None or self.held[0] != job:
            self.held = None
            self.held = job, parts, work.build()
        return self.held[1], self.held[2]


def _each_left(parts: Parts, items: Sequence[int]) -> list[list[int]]:
    """Each item whose part is not there yet, by itself."""
    left = set(parts.unfinished())
    return [[item] for item in items if item in left]


def _tell(pool: Any, place: tuple[str, int], doing: Callable[[], str | None]) -> None:
    """Says each change of what a replica is at, soon after it."""
    told = None
    while True:
        kind = doing()
        # Before anything else it imports; what is of no kind later on is work, or rest between items.
        phase = phase_of(kind) if kind or told else None
        if phase not in (None, told):
            pool.is_at.remote(place, phase)
            told = phase
        time.sleep(_LOOK_EVERY_SECONDS)


_LOOK_EVERY_SECONDS = 0.5


def _check_shared(parts: Parts) -> None:
    if not parts.run.exists(parts.plan.name):
        where = f"is not seen from {socket.gethostname()}; hosts work together in a folder that all share, or on s3://"
        raise InputError(where, file=parts.run.path(parts.plan.name), key="run_dir")
