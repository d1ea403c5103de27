"""A file of `tune_configs/`: a sweep, and the configuration that it starts from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moe_safety.config.load import (
    apply_override,
    dump_config,
    dump_yaml,
    first_complaint,
    parse_config,
    read_yaml,
    set_key,
)
from moe_safety.config.names import SCORES
from moe_safety.config.root import Config
from moe_safety.config.space import Point
from moe_safety.config.sweep import Sweep
from moe_safety.errors import InputError


@dataclass(frozen=True)
class SweepFile:
    """A sweep with the configuration that it starts from."""

    name: str
    """The file's, without `.yaml`."""
    path: Path
    sweep: Sweep
    values: Mapping[str, Any]
    """The configuration as plain values."""
    config: Config

    def at(self, point: Point) -> Config:
        """The configuration of a trial."""
        return parse_config(_with(self.values, self.sweep, point), self.path)

    @cached_property
    def tried(self) -> list[Config]:
        """The configuration that trials start from, and each change of it alone."""
        ends = [self.at({key: end}) for key, domain in self.sweep.space.items() for end in domain.ends()]
        return [self.config, *ends]

    @property
    def scores(self) -> list[Any]:
        """Every score that some trial may need, in the order of the registry."""
        needed = {config.identify.ranked_by for config in self.tried if config.identify.ranking}
        return [SCORES.get(name) for name in SCORES.names() if name in needed]


def load_sweep(path: str | Path, overrides: list[str] | None = None) -> SweepFile:
    """Reads a sweep file: `base:` names a configuration, `set:` changes keys of it, `sweep:` says what is tried.

    `overrides` are of the configuration; those of `sweep.` are of the sweep.
    """
    path = Path(path)
    given = read_yaml(path)
    if unknown := [key for key in given if key not in ("base", "set", "sweep")]:
        near = difflib.get_close_matches(unknown[0], ["base", "set", "sweep"], n=1, cutoff=0.4)
        raise InputError("unknown key" + (f", did you mean '{near[0]}'?" if near else ""), file=path, key=unknown[0])
    for key in ("base", "sweep"):
        if key not in given:
            raise InputError("a value is required", file=path, key=key)
    if not isinstance(given["base"], str):
        raise InputError("names a configuration, as a path from this file", file=path, key="base")
    base = path.parent / given["base"]
    values = read_yaml(base)
    for key, value in _mapping(given, "set", path).items():
        set_key(values, key, value)
    own = {"sweep": _mapping(given, "sweep", path)}
    for override in overrides or []:
        apply_override(own if override.startswith("sweep.") else values, override)
    loaded = SweepFile(path.stem, path, _sweep(own["sweep"], path), values, parse_config(values, base))
    _check_space(loaded)
    return loaded


def dump_sweep(file: SweepFile) -> str:
    """The sweep, and the configuration that it starts from, as YAML."""
    return dump_yaml({"sweep": file.sweep.model_dump(mode="json", exclude_none=True)}) + dump_config(file.config)


def _changes(key: str, value: Any) -> dict[str, Any]:
    """What a value sets, by key; a mapping sets several, and leaves the others of its section as they are."""
    if not isinstance(value, dict):
        return {key: value}
    return {place: one for inner, below in value.items() for place, one in _changes(f"{key}.{inner}", below).items()}


def _with(values: Mapping[str, Any], sweep: Sweep, point: Point) -> dict[str, Any]:
    changed = deepcopy(dict(values))
    for swept, value in point.items():
        for key, one in _changes(swept, sweep.space[swept].plain(value)).items():
            set_key(changed, key, one)
    return changed


def _mapping(given: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = given.get(key) or {}
    if not isinstance(value, dict):
        raise InputError("is a mapping of keys to values", file=path, key=key)
    return value


def _sweep(values: dict[str, Any], path: Path) -> Sweep:
    try:
        return Sweep.model_validate(values)
    except ValidationError as error:
        raise first_complaint(error, path, "sweep") from None


def _check_space(file: SweepFile) -> None:
    """Every end of every range, alone, makes a configuration; nothing is tried that stages before `identify` read."""
    sections = ("identify",) if file.sweep.kind == "selection" else ("identify", "train")
    for key, domain in file.sweep.space.items():
        where = f"sweep.space.{key}"
        if key.split(".")[0] not in sections:
            told = " and ".join(f"{section}.*" for section in sections)
            raise InputError(f"a {file.sweep.kind} sweep tries {told} alone", file=file.path, key=where)
        for end in domain.ends():
            try:
                file.at({key: end})
            except InputError as error:
                raise InputError(f"{end}: {error.message}", file=file.path, key=where) from None
    _check_overlap(file)
    _check_measurable(file)


def _check_overlap(file: SweepFile) -> None:
    """No two keys of the space set the same: which of them did would not be known."""
    owners: dict[str, str] = {}
    for swept, domain in file.sweep.space.items():
        places = {place for end in domain.ends() for place in _changes(swept, domain.plain(end))}
        for place in sorted(places):
            for other, owner in owners.items():
                if f"{place}.".startswith(f"{other}.") or f"{other}.".startswith(f"{place}."):
                    raise InputError(f"sets {place}, as {owner} does", file=file.path, key=f"sweep.space.{swept}")
        owners |= dict.fromkeys(places, swept)


def _check_measurable(file: SweepFile) -> None:
    """What trials choose by is there, and what they choose can be told."""
    tried = [config.identify for config in file.tried]
    if file.sweep.kind == "selection":
        routed = all(score.reads.stage == "capture" for score in file.scores)
        if not routed and (own := [one.masks for one in tried if one.masks not in (None, "global")]):
            problem = f"a selection sweep measures one selection for all batches, and {own[0]} makes many"
            raise InputError(problem, file=file.path, key="identify.masks")
        return
    ranked = {one.routing_score for one in tried} - {file.config.identify.routing_score}
    if weighed := [name for name in sorted(ranked) if SCORES.get(name).sums == "weights"]:
        problem = "trials read the tables of `identify`, which hold weights where it ranks by them"
        remedy = f"put identify.method: routing and identify.score: {weighed[0]} under `set`"
        raise InputError(f"{problem}; {remedy}", file=file.path, key="sweep.space")
