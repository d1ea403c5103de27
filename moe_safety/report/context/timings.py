"""Where the time went: what each stage's seconds were spent on, as manifests tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moe_safety.rundir import KINDS


@dataclass
class Spent:
    """The seconds of a stage, over all arms where it has some."""

    seconds: float = 0.0
    driver: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By kind; they add up to the stage's seconds."""
    replicas: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By kind, of all replicas together, which work side by side while the driver waits."""

    def add(self, timings: Mapping[str, Any]) -> None:
        """Adds what a manifest tells."""
        self.seconds += timings["seconds"]
        for own, told in ((self.driver, timings["driver"]), (self.replicas, timings["replicas"])):
            for kind, seconds in told.items():
                own[kind] += seconds


@dataclass(frozen=True)
class Timings:
    """Where the time went, by stage."""

    stages: dict[str, Spent]

    @property
    def kinds(self) -> dict[str, str]:
        """What any of them was spent on, with an explanation."""
        found = {kind for one in self.stages.values() for kind in (*one.driver, *one.replicas)}
        return {kind: told for kind, told in KINDS.items() if kind in found}

    @property
    def whole(self) -> Spent:
        """All stages together."""
        whole = Spent()
        for one in self.stages.values():
            whole.add({"seconds": one.seconds, "driver": one.driver, "replicas": one.replicas})
        return whole


def read_timings(manifests: Mapping[str, Mapping[str, Any]]) -> Timings:
    """The timings of all stages that told of theirs, in the order in which they were run."""
    stages: dict[str, Spent] = defaultdict(Spent)
    for name, manifest in manifests.items():
        if "timings" in manifest:
            stages[name.partition("/")[0]].add(manifest["timings"])
    return Timings(dict(stages))
