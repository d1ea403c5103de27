"""One line that says how far a job is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LOG_EVERY_SECONDS = 30.0


class Progress:
    """Counts items, prompts and tokens; speed is measured from the first finished item, when actors are up."""

    def __init__(self, name: str, items: int) -> None:
        self.name, self.items = name, items
        self.done = self.prompts = self.tokens = 0
        self.started = self.logged = time.monotonic()
        self.first: tuple[float, int, int] | None = None
        self.warned = set[str]()
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            disable=not sys.stderr.isatty(),
        )
        self.task = self.bar.add_task(name, total=items, speed="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def warn(self, lines: Iterable[str]) -> None:
        """Says what replicas warned of, each different line once."""
        for line in lines:
            if line not in self.warned:
                self.warned.add(line)
                print(f"{self.name}: {line}", file=sys.stderr, flush=True)

    def advance(self, prompts: int, tokens: int) -> None:
        """Counts an item as done, and says so."""
        self.done, self.prompts, self.tokens = self.done + 1, self.prompts + prompts, self.tokens + tokens
        now = time.monotonic()
        if self.first is None:
            self.first = (now, self.prompts, self.tokens)
        self.bar.update(self.task, completed=self.done, speed=self.speed(now))
        last = self.done == self.items
        if self.bar.disable and (last or now - self.logged > LOG_EVERY_SECONDS):
            self.logged = now
            print(f"{self.name}: {self.done}/{self.items} items, {self.speed(now)}", file=sys.stderr)

    def speed(self, now: float) -> str:
        """The speed since the first item, in words."""
        prompts, tokens = self.rates(now)
        return f"{prompts:,.1f} prompts/s, {tokens:,.0f} tokens/s"

    def rates(self, now: float) -> tuple[float, float]:
        """Prompts and tokens per second."""
        start, prompts, tokens = self.first or (now, 0, 0)
        if now <= start:
            # A single item: all that is known is the time since the job began.
            start, prompts, tokens = self.started, 0, 0
        seconds = max(now - start, 1e-9)
        return (self.prompts - prompts) / seconds, (self.tokens - tokens) / seconds
