"""What was asked, with which settings and packages, and from which files: all that the manifests know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from moe_safety.rundir import RunDir

_OWN = "report"
_TRIALS = "/tune/"
"""Stages of a sweep's trials, of which there may be hundreds; the sweep's own stage is shown in their place."""


@dataclass(frozen=True)
class Done:
    """One finished stage."""

    name: str
    finished: str
    seconds: float
    inputs: dict[str, str]
    outputs: dict[str, str]
    """Hashes, by the name of the file or of what it is."""
    settings: str
    """What decided its results, as YAML."""


@dataclass(frozen=True)
class Origins:
    """The end of the report."""

    stages: list[Done]
    versions: dict[str, list[str]]
    """By package; more than one where stages ran with different ones."""
    config: str
    """The whole configuration of the latest stage, as YAML."""


def read_manifests(run: RunDir) -> dict[str, dict[str, Any]]:
    """The manifests of the other finished stages, by name, in the order in which they were run."""
    found = [run.read_json(name) for name in run.names("manifests", ".json")]
    done = [one for one in found if one["status"] == "done" and one["stage"] != _OWN and _TRIALS not in one["stage"]]
    return {one["stage"]: one for one in sorted(done, key=lambda one: one["started"])}


def read_origins(manifests: dict[str, dict[str, Any]]) -> Origins:
    """The origins that all manifests tell of, the oldest first."""
    versions: dict[str, list[str]] = {}
    for one in manifests.values():
        for package, version in one["versions"].items():
            if version not in versions.setdefault(package, []):
                versions[package].append(version)
    latest = list(manifests.values())[-1]["config"] if manifests else {}
    return Origins(
        stages=[_done(one) for one in manifests.values()],
        versions=versions,
        config=_yaml(latest),
    )


def _done(manifest: dict[str, Any]) -> Done:
    finished = datetime.fromtimestamp(manifest["finished"], UTC)
    return Done(
        name=manifest["stage"],
        finished=f"{finished:%Y-%m-%d %H:%M} UTC",
        seconds=manifest["finished"] - manifest["started"],
        inputs=manifest["inputs"],
        outputs=manifest["outputs"],
        settings=_yaml(manifest["settings"]),
    )


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
