"""A stage, as its room declares it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from moe_safety.config import Config, Registry

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Flag:
    """A flag of a stage's command, which the stage's function takes by its name."""

    name: str
    about: str
    metavar: str | None = None
    """What stands behind it; without one the flag is a switch."""


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline, and a command of its name."""

    name: str
    summary: str
    """In one line, for help."""
    run: Callable[..., Manifest]
    """Takes the configuration and, by name, `force`, its flags and other options; returns the manifest, with `failed`
    where a check failed that a flag asked for. What it needs is imported when it runs."""
    writes: tuple[str, ...]
    """Artifacts that other stages may read, by their names in a run directory."""
    reads: Callable[[], tuple[str, ...]] = lambda: ()
    """The artifacts that it reads where they are there. A score of another package may bring one."""
    lines: Callable[[Config, Manifest], Iterable[str]] = lambda config, manifest: ()
    """Sum up what it did, by its manifest. Of work that was done already the first is told alone."""
    section: str | None = None
    """Its section of the configuration, if it has settings."""
    needs_model: bool = False
    """Whether it loads weights."""
    needed_when: Callable[[Config], bool] = lambda config: True
    """Whether `run` takes the stage in."""
    flags: tuple[Flag, ...] = ()
    example: str = ""
    """Flags that help shows in use."""
    look_at: tuple[str, ...] = ()
    """Files that it leaves for people."""


STAGES: Registry[Stage] = Registry("stage", "moe_safety.stages")
