"""What is known of each trial: a small file of its own, from which a killed sweep goes on."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from moe_safety.config import Point
from moe_safety.rundir import RunDir

Status = Literal["running", "finished", "stopped", "failed"]


@dataclass
class Record:
    """A trial: what it tried, and what it reported, once a round."""

    point: Point
    status: Status = "running"
    results: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """The trial's name, a hash of its point."""
        return id_of(self.point)

    @property
    def is_over(self) -> bool:
        """Whether the trial runs no more."""
        return self.status != "running"

    @property
    def last(self) -> dict[str, Any]:
        """The last results, empty before the first."""
        return self.results[-1] if self.results else {}

    def measured(self, name: str) -> float | None:
        """The measure that it reported last; None where that is no number."""
        value = self.last.get(name)
        return None if value is None or math.isnan(value) else float(value)


def id_of(point: Point) -> str:
    """Trials that try the same have the same name, so that one that was cut off finds what it left."""
    return hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:10]


def work_of(folder: str, point: Point) -> str:
    """The folder of a trial's rounds, of a sweep in this one."""
    return f"{folder}/work/{id_of(point)}"


@dataclass(frozen=True)
class Records:
    """The records of a sweep, under its folder of the run directory."""

    run: RunDir
    folder: str

    def read(self) -> list[Record]:
        """All records, in the order of their names."""
        names = self.run.names(f"{self.folder}/trials", ".json")
        return [Record(**self.run.read_json(name)) for name in names]

    def write(self, record: Record) -> None:
        """Writes a trial's record."""
        self.run.write_json(self.name_of(record), asdict(record))

    def name_of(self, record: Record) -> str:
        """The name of a trial's file."""
        return f"{self.folder}/trials/{record.id}.json"
