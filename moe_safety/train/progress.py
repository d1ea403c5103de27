"""How far training is: a small file that worker 0 of a phase keeps, wherever it runs, and the line made of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from moe_safety.jobs import Progress, phase_of, told_seconds
from moe_safety.rundir import RunDir, watched
from moe_safety.train.task import Task, reached_of

EVERY_SECONDS = 1.0
_SHOWN = 3
"""How many of those that train side by side are told of."""


@dataclass
class Reached:
    """What a phase has reached."""

    phase: str = "starting"
    step: int = 0
    """Steps done, by an earlier start too."""
    steps: int = 0
    """All steps of the phase, once they are known."""
    made: int = 0
    """Steps done since this start, in so many `seconds`."""
    tokens: int = 0
    seconds: float = 0.0
    part: int = 0
    """The phase's place among the `parts` that the whole training has."""
    parts: int = 1

    def add(self, row: Mapping[str, Any]) -> None:
        """Counts a step, by its row of the log."""
        self.step, self.made = row["step"] + 1, self.made + 1
        self.tokens, self.seconds = self.tokens + row["tokens"], self.seconds + row["seconds"]

    @property
    def share(self) -> float:
        """Of the whole training, what is done."""
        return (self.part + (self.step / self.steps if self.steps else 0.0)) / self.parts

    def told(self) -> str:
        """In words; of steps that are being made, how fast they are and when they will be done."""
        count = f"step {self.step}/{self.steps}"
        if not self.made or self.step == self.steps:
            return f"{self.phase}, {count}" if self.steps else self.phase
        left = (self.steps - self.step) * self.seconds / self.made
        return f"{count}, {self.tokens / max(self.seconds, 1e-9):,.0f} tokens/s, {told_seconds(left)} left"


@contextmanager
def publishing(run: RunDir, task: Task) -> Iterator[Reached]:
    """Inside, a file follows what is reached. A thread of its own writes it; a failure changes nothing."""
    part, parts = task.place
    reached, doing, ended = Reached(part=part, parts=parts), watched(), threading.Event()

    def follow() -> None:
        written: dict[str, Any] = {}
        while not ended.wait(EVERY_SECONDS):
            reached.phase = phase_of(doing())
            if (now := asdict(reached)) != written:
                with suppress(Exception):
                    run.write_json(task.reached, now)
                    written = now

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield reached
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):
            run.delete(task.reached)


def published(run: RunDir, name: str) -> Reached | None:
    """What a worker has reached; nothing where none has said."""
    with suppress(Exception):  # It may be written at this moment, and be gone at the next.
        return Reached(**run.read_json(name))
    return None


class PhaseProgress(Progress):
    """The progress of a phase, whoever trains it."""

    def __init__(self, run: RunDir, task: Task) -> None:
        doing = watched()
        super().__init__(task.title, None, lambda: phase_of(doing()))
        self.run, self.file = run, task.reached

    def line(self, now: float) -> str:
        """What the worker says; before it says anything, what this process is at."""
        reached = published(self.run, self.file)
        if reached is None:
            return super().line(now)
        return reached.told() if reached.made else f"{reached.told()}, for {told_seconds(now - self.started)}"


class SideBySide(Progress):
    """The progress of trainings that run side by side."""

    def __init__(
        self, name: str, unit: str, run: RunDir, count: int, running: Callable[[], Mapping[str, str]], stood: int = 0
    ) -> None:
        """Of `count`, so many `stood` before; `running` tells the folders of those at work, by their names."""
        super().__init__(name, count, lambda: "working")
        self.unit, self.run, self.count, self.running, self.stood = unit, run, count, running, stood
        self.done = stood

    def line(self, now: float) -> str:
        """How many are done, what is known of them, what the first of the others have reached, and when all will be."""
        found = {name: published(self.run, reached_of(folder)) for name, folder in self.running().items()}
        told = [f"{name}: {reached.told() if reached else 'at work'}" for name, reached in found.items()]
        if len(told) > _SHOWN:
            told[_SHOWN:] = [f"{len(told) - _SHOWN} more at work"]
        made = self.done - self.stood + sum(reached.share for reached in found.values() if reached)
        left = (now - self.started) * (self.count - self.stood - made) / made if made else None
        in_all = [] if left is None else [f"{told_seconds(left)} left in all"]
        return "; ".join([f"{self.done}/{self.count} {self.unit}", *self.also(), *told, *in_all])

    def also(self) -> Iterator[str]:
        """What else is known of those that are done."""
        return iter(())
