"""Ends an actor whose work item hangs: Ray starts another in its place, which takes the item up again."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from types import TracebackType
from typing import Self

from moe_safety.errors import RunError
from moe_safety.jobs.parts import Parts

ATTEMPTS = 3
"""So often an item may hang before the run ends with an error."""
_LAST_WORDS = 60.0
"""Seconds for the note that the watchdog leaves; a process that cannot even write it is ended all the same."""


class Watchdog:
    """Around the work on one item. Where it takes longer than `limit` seconds, the process ends at once."""

    def __init__(self, parts: Parts, item: int, limit: float | None) -> None:
        self.parts, self.item, self.limit = parts, item, limit
        self.note = f"{parts.folder}/_hung/part-{item:06d}.json"
        self.notes: dict[str, int] = {}
        """What a user should know of the item: how often it hung before."""
        self.timer = threading.Timer(limit or 0, self._end)
        self.timer.daemon = True

    def __enter__(self) -> Self:
        if self.limit is not None:
            if times := self._times():
                self.notes["hung"] = times
            if times >= ATTEMPTS:
                # Counted anew when the command is run again.
                self.parts.run.delete(self.note)
                raise RunError(
                    f"{self.parts.folder}: work item {self.item} took longer than {self.limit:g} s, {ATTEMPTS} times "
                    f"in a row; {self.parts.run.path(self._trace)} says where; the key is `item_timeout`"
                )
            self.timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.timer.cancel()
        if self.notes and error is None:
            self.parts.run.delete(self.note)

    @property
    def _trace(self) -> str:
        return f"{self.parts.folder}/_errors/part-{self.item:06d}.txt"

    def _times(self) -> int:
        run = self.parts.run
        return int(run.read_json(self.note)["times"]) if run.exists(self.note) else 0

    def _end(self) -> None:
        faulthandler.dump_traceback_later(_LAST_WORDS, exit=True)
        run, times = self.parts.run, self._times() + 1
        stacks = "\n".join("".join(traceback.format_stack(frame)) for frame in sys._current_frames().values())
        run.write_bytes(self._trace, stacks.encode())
        run.write_json(self.note, {"times": times})
        os._exit(1)
