"""A relay of worker 0's lines to the user's terminal, through the run directory: Ray keeps workers' output in logs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from moe_safety.errors import MoeSafetyError
from moe_safety.rundir import RunDir

EVERY_SECONDS = 1.0


class Teller:
    """The worker's side: its lines, in files of some seconds' worth each, so that an object store is not overrun."""

    def __init__(self, run: RunDir, folder: str) -> None:
        self.run, self.folder = run, folder
        self.lines: list[str] = []
        self.told = -EVERY_SECONDS

    def __call__(self, line: str) -> None:
        self.lines.append(f"{line}\n")
        if time.monotonic() - self.told >= EVERY_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Writes the lines that have not been written yet. A failure does not end the run; it is tried again later."""
        if not self.lines:
            return
        self.told = time.monotonic()
        with suppress(MoeSafetyError):
            self.run.write_bytes(f"{self.folder}/{time.time_ns():020d}.txt", "".join(self.lines).encode())
            self.lines = []


@contextmanager
def listening(run: RunDir, folder: str) -> Iterator[None]:
    """The driver's side: inside, prints what is told, in order."""
    ended = threading.Event()
    thread = threading.Thread(target=_listen, args=(run, folder, ended), daemon=True)
    run.delete_folder(folder)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        run.delete_folder(folder)


def _listen(run: RunDir, folder: str, ended: threading.Event) -> None:
    last = False
    while not last:
        last = ended.wait(EVERY_SECONDS)
        with suppress(OSError):
            for name in run.names(folder):
                print(run.read_bytes(name).decode(), end="", flush=True)
                run.delete(name)
