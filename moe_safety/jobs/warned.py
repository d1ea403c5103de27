"""What this program warns of while it works elsewhere, such as that something slower does the work: what a worker logs
stays in Ray's files, so that it is sent to the user with the work itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def warnings_to(say: Callable[[str], Any]) -> Iterator[None]:
    """Inside, each different line that is warned of is said once."""
    logger, listener = logging.getLogger("moe_safety"), _Listener(say)
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)


class _Listener(logging.Handler):
    def __init__(self, say: Callable[[str], Any]) -> None:
        super().__init__(logging.WARNING)
        self.say, self.said = say, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if line not in self.said:
            self.said.add(line)
            self.say(line)
