"""Handlers that do little, and misbehave on demand. Actors import this module."""

import logging
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from moe_safety.errors import InputError
from moe_safety.jobs import watchdog

SCHEMA = pa.schema([("n", pa.int64())])
PID_SCHEMA = pa.schema([("pid", pa.int64())])
FULL = 1 << 20
"""Bytes that a file may have on a "full" disk: Ray's own logs stay below."""


def more_than_fits():
    """From here on this process's files end at `FULL`; the table does not compress to so little."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return pa.table({"n": np.random.default_rng(0).integers(2**62, size=FULL // 4)}, schema=SCHEMA)


@dataclass
class Square:
    """Squares its rows. The first time it meets `trap` it does what `deed` says."""

    flags: str
    trap: int = -1
    deed: str = ""
    pause: float = 0.0
    divisible: bool = True

    def __call__(self, rows, notes):
        numbers = rows["n"].to_pylist()
        time.sleep(self.pause)
        with open(Path(self.flags) / "handled", "a") as file:
            file.write("".join(f"{number}\n" for number in numbers))
        if self.trap in numbers:
            self.misbehave(numbers)
            if self.deed == "full":
                return more_than_fits()
        return pa.table({"n": [number**2 for number in numbers]}, schema=SCHEMA)

    def tokens(self, rows):
        return len(rows)

    def misbehave(self, numbers):
        if self.deed == "memory" and len(numbers) > 2:
            raise MemoryError("too large")
        if self.deed == "input":
            raise InputError("is no good", file="some.json", row=3)
        if self.deed == "bug":
            raise ZeroDivisionError("a bug")
        flag = Path(self.flags) / "killed"
        if self.deed == "hang always" or (self.deed == "hang" and not flag.exists()):
            flag.touch()
            time.sleep(600)
        if self.deed == "kill always":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.deed == "no room":
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        if self.deed == "kill" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Told(Square):
    """Is done with an item once the driver was told of all before it, each of which is a byte of `told`."""

    def __call__(self, rows, notes):
        part, until = super().__call__(rows, notes), time.monotonic() + 20
        before = len((Path(self.flags) / "handled").read_text().split()) // len(rows) - 1
        while before and (not (told := Path(self.flags) / "told").exists() or told.stat().st_size < before):
            assert time.monotonic() < until, "nobody was told of an item before"
            time.sleep(0.05)
        return part


class Impatient:
    """Builds handlers in processes that give an item up after the third death: each is a process more to start."""

    def __init__(self, build):
        self.build = build

    def __call__(self):
        return self.build()

    def __reduce__(self):
        return _impatient, (self.build,)


def _impatient(build):
    """In the process that it is sent to, before it takes up an item."""
    watchdog.DEATHS = 3
    return build


class Who:
    """Says which process it works in."""

    divisible = True

    def __init__(self, broken=False, warning=None):
        self.broken, self.warning = broken, warning

    def __call__(self, rows, notes):
        time.sleep(0.2)
        if self.warning:
            logging.getLogger("moe_safety.somewhere").warning(self.warning)
        if self.broken:
            raise ZeroDivisionError("a bug")
        return pa.table({"pid": [os.getpid()]}, schema=PID_SCHEMA)

    def tokens(self, rows):
        return 1


def die_once(flag):
    """Kills its process the first time."""
    if not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def refuse():
    raise InputError("is no good")
