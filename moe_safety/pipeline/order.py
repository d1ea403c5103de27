"""The order of stages, which follows from what they read and write."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from moe_safety.errors import InputError
from moe_safety.pipeline.stage import Stage


def in_order(stages: Iterable[Stage]) -> list[Stage]:
    """Each stage behind those that write what it reads; where that leaves a choice, in the given order."""
    given = list(stages)
    place = {stage.name: number for number, stage in enumerate(given)}
    sorter = TopologicalSorter(
        {
            stage.name: {other.name for other in given if other is not stage and set(other.writes) & set(stage.reads())}
            for stage in given
        }
    )
    try:
        sorter.prepare()
    except CycleError as error:
        raise InputError(f"stages read from each other in a circle: {' → '.join(error.args[1])}") from None
    ready, ordered = list(sorter.get_ready()), list[Stage]()
    while ready:
        first = min(ready, key=place.__getitem__)
        ready.remove(first)
        ordered.append(given[place[first]])
        sorter.done(first)
        ready += sorter.get_ready()
    return ordered
