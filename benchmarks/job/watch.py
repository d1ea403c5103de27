"""What a command's processes read and wrote, and whether the card worked, now and then."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil
import torch

STEP = 0.25


@dataclass
class Watched:
    """The looks at a command and all its descendants."""

    moved: list[tuple[float, int, int]] = field(default_factory=list)
    """Time, bytes read and bytes written so far, by calls; what maps files reads them past any count."""
    busy: list[tuple[float, int]] = field(default_factory=list)
    """Time, and the first card's utilisation."""
    held: list[tuple[float, float, float]] = field(default_factory=list)
    """Time, the gigabytes in use on the fullest card, and what the largest process holds of its own on the host."""

    def read_and_written(self, start: float, end: float) -> tuple[int, int]:
        """Between two times."""
        before, after = self._until(start), self._until(end)
        return after[1] - before[1], after[2] - before[2]

    def _until(self, time: float) -> tuple[float, int, int]:
        return max((one for one in self.moved if one[0] <= time), default=(0.0, 0, 0))

    def peaks(self, start: float, end: float) -> tuple[float, float]:
        """The most that a card and a process held between two times."""
        here = [(card, process) for at, card, process in self.held if start <= at <= end]
        return max((each[0] for each in here), default=0.0), max((each[1] for each in here), default=0.0)

    def at_rest(self, start: float, end: float) -> float | None:
        """The share of the time in which the card did nothing."""
        here = [share for at, share in self.busy if start <= at <= end]
        return sum(share == 0 for share in here) / len(here) if here else None


@contextmanager
def watching(command: subprocess.Popen[bytes]) -> Iterator[Watched]:
    """Looks at the command while the block runs."""
    watched, over, known = Watched(), threading.Event(), dict[psutil.Process, tuple[int, int]]()

    def look() -> None:
        while not over.wait(STEP):
            largest, fullest = 0.0, 0.0
            with suppress(psutil.Error):
                top = psutil.Process(command.pid)
                for process in (top, *top.children(recursive=True)):
                    with suppress(psutil.Error):
                        moved = process.io_counters()
                        known[process] = moved.read_chars, moved.write_chars
                        memory = process.memory_info()
                        largest = max(largest, (memory.rss - memory.shared) / 1e9)
                watched.moved.append((time.time(), *map(sum, zip(*known.values(), strict=True))))
            if torch.cuda.is_available():
                ask = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]
                said = subprocess.run(ask, capture_output=True, text=True).stdout.strip()
                cards = [line.split(", ") for line in said.splitlines() if line[:1].isdigit()]
                if cards:
                    watched.busy.append((time.time(), int(cards[0][0])))
                    fullest = max(int(used) for _, used in cards) * 2**20 / 1e9
            watched.held.append((time.time(), fullest, largest))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()
