"""A stage, as its room declares it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moe_safety.config import Config, Registry


def _nothing() -> tuple[str, ...]:
    return ()


def _always(config: Config) -> bool:
    return True


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline, and a command of its name."""

    name: str
    summary: str
    """In one line, for help."""
    run: Callable[..., dict[str, Any]]
    """Takes the configuration and, by name, `force` and the stage's own options, such as `quiet`; returns the manifest.
    What it needs is imported when it runs."""
    writes: tuple[str, ...]
    """Artifacts that other stages may read, by their names in a run directory."""
    reads: Callable[[], tuple[str, ...]] = _nothing
    """The artifacts that it reads where they are there. A score of another package may bring one."""
    needed_when: Callable[[Config], bool] = _always
    """Whether `run` takes the stage in."""


STAGES: Registry[Stage] = Registry("stage", "moe_safety.stages")
