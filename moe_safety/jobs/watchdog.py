"""Ends an actor whose work item hangs, and a run whose item ends every actor: Ray starts another in the place of one
that died, without end."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from moe_safety.errors import InputError, RunError
from moe_safety.jobs.parts import Parts

HANGS, DEATHS = 3, 6
"""So often in a row an item may hang, or its process die, before the run ends with an error. Processes also die for
reasons of their own."""
_LAST_WORDS = 60.0
"""Seconds for the note that the watchdog leaves; a process that cannot even write it is ended all the same."""


@dataclass
class Attempts:
    """How earlier attempts at an item ended."""

    hung: int = 0
    died: int = 0


def was_tried(parts: Parts, item: int) -> bool:
    """Whether somebody began the item in this command, and did not come to an end with it."""
    return parts.run.exists(_note_name(parts, item))


def _note_name(parts: Parts, item: int) -> str:
    return f"{parts.folder}/_attempts/part-{item:06d}.json"


def forget_attempts(parts: Parts) -> None:
    """A command begins to count anew."""
    parts.run.delete_folder(f"{parts.folder}/_attempts")


class Watchdog:
    """Around the work on an item, or on several of which it is one. Where it takes longer than `limit` seconds, the
    process ends at once."""

    def __init__(self, parts: Parts, item: int, limit: float | None) -> None:
        self.parts, self.item, self.limit = parts, item, limit
        self.note = _note_name(parts, item)
        self.before = self._read()
        self.timer: threading.Timer | None = None

    @property
    def notes(self) -> dict[str, int]:
        """What a user should know of the item."""
        return {"hung": self.before.hung} if self.before.hung else {}

    def __enter__(self) -> Self:
        where = f"{self.parts.folder}: work item {self.item}"
        if self.before.hung >= HANGS:
            raise RunError(
                f"{where} took longer than {self.limit:g} s, {HANGS} times in a row; "
                f"{self.parts.run.path(self._trace)} says where; the key is `item_timeout`"
            )
        if self.before.died >= DEATHS:
            raise RunError(
                f"{where} ended its process {DEATHS} times in a row; most likely the machine has too little memory for "
                "it, or code that it calls has a fault"
            )
        # If nothing is heard of this attempt again, its process has died.
        self._write(Attempts(self.before.hung, self.before.died + 1))
        self.wait()
        return self

    def wait(self, items: int = 1) -> None:
        """From now on it may take the time of so many items."""
        self._stop()
        if self.limit is not None:
            self.timer = threading.Timer(self.limit * items, self._end)
            self.timer.daemon = True
            self.timer.start()

    def _stop(self) -> None:
        if self.timer:
            self.timer.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self.parts.run.delete(self.note)

    @property
    def _trace(self) -> str:
        return f"{self.parts.folder}/_errors/part-{self.item:06d}.txt"

    def _read(self) -> Attempts:
        run = self.parts.run
        try:
            return Attempts(**run.read_json(self.note)) if run.exists(self.note) else Attempts()
        except (InputError, TypeError):
            return Attempts()

    def _write(self, attempts: Attempts) -> None:
        self.parts.run.write_json(self.note, asdict(attempts))

    def _end(self) -> None:
        faulthandler.dump_traceback_later(_LAST_WORDS, exit=True)
        stacks = "\n".join("".join(traceback.format_stack(frame)) for frame in sys._current_frames().values())
        self.parts.run.write_bytes(self._trace, stacks.encode())
        self._write(Attempts(self.before.hung + 1, self.before.died))
        os._exit(1)
