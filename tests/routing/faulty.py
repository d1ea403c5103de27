"""A reader of routing that fails on demand. Actors import this module."""

import os
import signal
from pathlib import Path

from moe_safety.routing.reader import RoutingReader, build_reader


class Faulty(RoutingReader):
    """Reads routing, and once does what `deed` says on the item that holds a certain prompt."""

    def __init__(self, model, flag, prompt_id, deed):
        super().__init__(build_reader(model, 0).model)
        self.flag, self.prompt_id, self.deed = Path(flag), prompt_id, deed

    def __call__(self, rows, notes):
        if self.prompt_id in rows["prompt_id"].to_pylist():
            if self.deed == "memory" and len(rows) > 2:
                raise MemoryError
            if self.deed == "kill" and not self.flag.exists():
                self.flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(rows, notes)
