"""The packages that a stage ran with. Figures of two versions of torch or transformers may differ."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from moe_safety.rundir.storage import Missing, RunDir

PACKAGES = ("moe-safety", "torch", "transformers", "ray", "deepspeed", "datasets", "pandas", "numpy", "pyarrow")
COMPARED = ("torch", "transformers")
_NAMED = 3


def versions() -> dict[str, str]:
    """The versions of packages in this process."""
    return {package: _version(package) for package in PACKAGES}


@cache
def _version(package: str) -> str:
    """Read once: a package's description is long, and every stage and arm has a manifest."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unpackaged"


def warn_of_other_versions(run: RunDir, stage: str, now: Mapping[str, str], own: Mapping[str, Any] | None) -> None:
    """One line where the run directory holds work of other versions than these. `own` is the manifest of what the stage
    itself left, if it goes on with that."""
    others: dict[str, list[str]] = {}
    for manifest in [*_of_other_stages(run, stage), *([own] if own else [])]:
        for package in COMPARED:
            then = manifest["versions"][package]
            if then != now[package]:
                others.setdefault(f"{package} {then}", []).append(manifest["stage"])
    if others:
        here = ", ".join(f"{package} {now[package]}" for package in COMPARED)
        there = "; ".join(f"{which} ({_some(stages)})" for which, stages in others.items())
        print(
            f"warning: {run.uri}: `{stage}` runs with {here} beside work of {there}: figures may differ",
            file=sys.stderr,
        )


def _of_other_stages(run: RunDir, stage: str) -> list[Mapping[str, Any]]:
    found = []
    for name in run.names("manifests", ".json"):
        with suppress(Missing):  # Another command may be doing its stage again.
            found.append(run.read_json(name))
    return [manifest for manifest in found if manifest["stage"] != stage]


def _some(stages: list[str]) -> str:
    more = f" and {len(stages) - _NAMED} more" if len(stages) > _NAMED else ""
    return ", ".join(stages[:_NAMED]) + more
