"""The pool of replicas. It outlives the jobs of a command, so that processes, imports and weights are paid once.

The pool is an actor of its own, without a model. Whoever has an item asks it; it hands the item to a replica that is
free, and puts another in the place of one that died.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from moe_safety.errors import InputError, MoeSafetyError, RunError, last_line
from moe_safety.jobs.progress import PHASES, WORKING
from moe_safety.jobs.replica import Replica, result_of

IDLE = 30.0
"""Seconds without an item after which replicas are ended: other commands may wait for what they hold."""
STARTS = 6
"""So often in a row a replica may fail to start, before what waits for it ends with an error. A host may lack what a
replica imports, and processes also die for reasons of their own."""

_FURTHEST_FIRST = (WORKING, *(PHASES[kind] for kind in ("compiling", "weights", "imports")))


class Pool:
    """Replicas of `gpus` GPUs each. Of those that are free the one that worked last is taken: it is warm."""

    def __init__(self, gpus: int, idle: float) -> None:
        self.gpus, self.idle = gpus, idle
        self.wanted = 0
        self.there: dict[Any, tuple[str, int] | None] = {}
        """The replicas, and the host and process of each that has started."""
        self.free: list[Any] = []
        self.failed: dict[str, dict[str, Any]] = {}
        """The first error of each job that has failed, by its ticket: the rest of its items is not begun."""
        self.hopeless: MoeSafetyError | None = None
        """Why replicas do not start."""
        self.changed = asyncio.Condition()
        self.at_work = 0
        self.rests_since = time.monotonic()
        self.watch: asyncio.Task[None] | None = None
        self.starting: set[asyncio.Task[None]] = set()
        self.phases: dict[tuple[str, int] | None, str] = {}
        """What each replica said last, by its host and process."""
        self.first: Callable[[], Any] | None = None
        """What a replica does first, so that it imports what it will need."""

    async def hold(self, count: int, first: Callable[[], Any] | None = None) -> None:
        """Has so many replicas at least; they start while the first items are on their way."""
        self.wanted, self.first = count, first or self.first
        self.rests_since = time.monotonic()
        self._fill()

    def _fill(self) -> None:
        """Has as many replicas as were wanted: on a busy host they may have been ended before the first item came."""
        while len(self.there) < self.wanted:
            self._start()
        if self.watch is None or self.watch.done():
            self.watch = asyncio.ensure_future(self._end_when_idle())

    async def is_at(self, process: tuple[str, int], phase: str) -> None:
        """A replica's word that it is at something else now."""
        self.phases[process] = phase

    async def phase(self) -> str:
        """What the replica is at that is furthest."""
        told = {self.phases[place] for place in self.there.values() if place in self.phases}
        return next((phase for phase in _FURTHEST_FIRST if phase in told), "starting replicas")

    def _can_give(self) -> bool:
        """Whether a replica is free, and no more are at work than are wanted: more may be there from another job."""
        lent = sum(place is not None for place in self.there.values()) - len(self.free)
        return bool(self.free) and lent < self.wanted

    async def ready(self) -> None:
        """Returns when a replica has started."""
        async with self.changed:
            await self.changed.wait_for(lambda: any(self.there.values()))

    async def _end_when_idle(self) -> None:
        while self.there:
            await asyncio.sleep(1)
            if not self.at_work and time.monotonic() - self.rests_since > self.idle:
                await self.release()

    async def handle(self, ticket: str, jobs: list[Any], job: int, items: list[int]) -> dict[str, Any]:
        """The result of items that are given at once. Where their replica dies they go to another; watchdogs count how
        often."""
        self.at_work += 1
        if not self.there:
            self._fill()
        try:
            return await self._handle(ticket, jobs, job, items)
        finally:
            self.at_work -= 1
            self.rests_since = time.monotonic()

    async def _handle(self, ticket: str, jobs: list[Any], job: int, items: list[int]) -> dict[str, Any]:
        while True:
            async with self.changed:
                await self.changed.wait_for(lambda: self._can_give() or self.hopeless or ticket in self.failed)
                if self.hopeless:
                    self.failed.setdefault(ticket, result_of(items, self.hopeless))
                if ticket in self.failed:
                    return self.failed[ticket]
                replica = self.free.pop()
            try:
                # Within a list a reference travels as it is, and is looked up where it is needed.
                result = await replica.handle.remote(ticket, jobs[0], job, items)
            except ray.exceptions.RayActorError:
                self._end(replica)
                self._start()
                continue
            except ray.exceptions.RayError as error:
                # `handle` itself raises nothing.
                result = result_of(items, _told(error))
            await self._take_back(replica, ticket, result)
            return result

    async def lend(self, tries: int, function: Callable[..., Any], *given: Any) -> Any:
        """What a function returns that wants a process with such imports to itself. Where it dies, another one tries,
        so many in all."""
        self.at_work += 1
        if not self.there:
            self._fill()
        try:
            while True:
                async with self.changed:
                    await self.changed.wait_for(lambda: self._can_give() or self.hopeless)
                    if self.hopeless:
                        raise self.hopeless
                    replica = self.free.pop()
                try:
                    result = await replica.call.remote(function, *given)
                except ray.exceptions.RayError as error:
                    self._end(replica)
                    self._start()
                    tries -= 1
                    if not (tries and isinstance(error, ray.exceptions.RayActorError)):
                        raise
                else:
                    await self._put_back(replica)
                    return result
        finally:
            self.at_work -= 1
            self.rests_since = time.monotonic()

    async def release(self) -> None:
        """Ends every replica, in the midst of an item too, and returns when those of this host are gone."""
        replicas, self.there, self.free = self.there, {}, []
        for replica in replicas:
            ray.kill(replica)
        here = [place[1] for place in replicas.values() if place and place[0] == socket.gethostname()]
        while any(map(_runs, here)):
            await asyncio.sleep(0.01)

    async def _take_back(self, replica: Any, ticket: str, result: dict[str, Any]) -> None:
        if result["error"]:
            self.failed.setdefault(ticket, result)
        if result["broken"]:
            self._end(replica)
        await self._put_back(replica)

    async def _put_back(self, replica: Any) -> None:
        """Among those that are free, unless it was ended meanwhile."""
        async with self.changed:
            if replica in self.there:
                self.free.append(replica)
            self.changed.notify_all()

    def _start(self, tries: int = STARTS) -> None:
        options = {"num_cpus": 1, "num_gpus": self.gpus, "max_restarts": 0}
        replica = ray.remote(Replica).options(**options).remote(ray.get_runtime_context().current_actor)
        self.there[replica] = None
        task = asyncio.ensure_future(self._enlist(replica, tries - 1))
        self.starting.add(task)
        task.add_done_callback(self.starting.discard)

    async def _enlist(self, replica: Any, tries: int) -> None:
        """Counts a replica in when it has started. Where it fails, others try in its place, so many."""
        try:
            place = await replica.place.remote()
        except ray.exceptions.RayError as error:
            if replica in self.there:
                self._end(replica)
                if tries:
                    self._start(tries)
                else:
                    await self._give_up(_told(error))
            return
        if self.first is not None:
            replica.prepare.remote(self.first)  # In its turn, before any item.
        if replica in self.there:
            self.there[replica] = place
        await self._put_back(replica)

    async def _give_up(self, why: MoeSafetyError) -> None:
        async with self.changed:
            self.hopeless = why
            self.changed.notify_all()

    def _end(self, replica: Any) -> None:
        self.there.pop(replica, None)
        ray.kill(replica)


def _told(error: Exception) -> MoeSafetyError:
    """Why a replica could not start, or begin with an item: most likely it could not unpickle the job."""
    line = last_line(error)
    if "ModuleNotFoundError" in line or "ImportError" in line or "AttributeError" in line:
        return InputError(f"a worker lacks what this job needs: {line}; install it on every host")
    return RunError(f"Ray gave up: {line}")


def _runs(process: int) -> bool:
    """Whether it still holds memory; one that has ended and was not yet asked for holds none."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


_held: tuple[tuple[str, str], int, Any] | None = None
"""The session of Ray, GPUs of a replica, and the pool of this process."""


def _session() -> tuple[str, str]:
    """Jobs are numbered in each cluster anew; nodes have names of their own."""
    here = ray.get_runtime_context()
    return here.get_node_id(), here.get_job_id()


def pool_of(gpus: int) -> Any:
    """The pool of this process, made anew where replicas are to have another number of GPUs."""
    global _held
    session = _session()
    if _held is None or _held[:2] != (session, gpus):
        release_replicas()
        # Beside the command that it works for: with that node everything ends anyway.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": 1 << 14, "scheduling_strategy": here}
        _held = session, gpus, ray.remote(Pool).options(**options).remote(gpus, IDLE)
    return _held[2]


def release_replicas() -> None:
    """Gives back what the replicas of this process hold, for whoever needs their processors, cards or memory."""
    global _held
    if _held is not None and ray.is_initialized() and _session() == _held[0]:
        ray.get(_held[2].release.remote())
        ray.kill(_held[2])
    _held = None
