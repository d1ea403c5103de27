"""When a stage runs, when it is skipped, and when it refuses."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from moe_safety.errors import InputError
from moe_safety.rundir.formats import check_format, format_of, other_format
from moe_safety.rundir.lock import stage_lock
from moe_safety.rundir.storage import Missing, RunDir
from moe_safety.rundir.timings import stage_account
from moe_safety.rundir.versions import versions, warn_of_other_versions


@dataclass(frozen=True)
class Work:
    """What decides a stage's outputs: its settings, and the hashes of what it reads."""

    name: str
    """As on the command line; arms add theirs, `train/ARM`."""
    settings: dict[str, Any]
    reads: tuple[str, ...] = ()
    """Files of the run directory."""
    others: dict[str, str] = field(default_factory=dict)
    """Hashes of what stands outside it: input files, the model."""
    behind: tuple[str, ...] = ()
    """Files that it reads too, of which something else than their own hash decides."""
    folder: str | None = None
    """Where its parts gather, if it has any; `--force` empties it."""
    keyed: str | None = None
    """Those of its parts that name all that decides them. `--force` after a change leaves them where they are, so that
    what the change does not concern is not done again."""
    remade: bool = False
    """Whether it only shows what other stages did: then it is made again where they changed, and nothing is lost."""


@dataclass(frozen=True)
class Outcome:
    """What a stage's body did."""

    outputs: tuple[str, ...]
    summary: dict[str, Any]
    """Figures worth printing and keeping."""


def manifest_name(stage: str) -> str:
    """The name of a stage's manifest; the slash of an arm becomes a dot."""
    return f"manifests/{stage.replace('/', '.')}.json"


def run_work(
    run: RunDir,
    stage: Work,
    config: dict[str, Any],
    body: Callable[[], Outcome],
    *,
    check: Callable[[], object] = lambda: None,
    force: bool = False,
    locked: bool = False,
) -> dict[str, Any]:
    """Runs `body` unless its outputs stand already, and returns the manifest, whose `skipped` says which it was.

    `check` fails where the work cannot be done. It is asked only where there is work, and before anything changes.
    `locked` says that the caller holds the stage's lock.
    """
    stage = _plain(stage)
    with stage_account() as account, nullcontext() if locked else stage_lock(run, stage.name):
        _check_read(run, stage)
        inputs = _hash_inputs(run, stage)
        stored = _stored(run, stage.name)
        if stored is not None and not force:
            change = _refused(run, stage, inputs, stored)
            if not change and stored["status"] == "done" and _intact(run, stored["outputs"]):
                return {**stored, "skipped": True}
        check()
        if force:
            discard(run, stage)
        run.remove_abandoned()
        goes_on = stored is not None and stage.folder is not None and bool(run.files(stage.folder))
        warn_of_other_versions(run, stage.name, versions(), stored if goes_on else None)
        manifest = {
            "stage": stage.name,
            "format": format_of(stage.name),
            "status": "running",
            "settings": stage.settings,
            "inputs": inputs,
            "behind": stage.behind,
            "config": config,
            "versions": versions(),
            "started": time.time(),
        }
        run.write_json(manifest_name(stage.name), manifest)
        outcome = body()
        manifest |= {
            "status": "done",
            "outputs": run.digests(outcome.outputs),
            "summary": outcome.summary,
            "finished": time.time(),
            "timings": account.told(),
        }
        run.write_json(manifest_name(stage.name), manifest)
        _collect(run)
        return {**manifest, "skipped": False}


def check_not_refused(run: RunDir, stage: Work) -> None:
    """The error with which `run_work` would refuse, for a caller that is about to change what the stage left."""
    stage = _plain(stage)
    if (stored := _stored(run, stage.name)) is not None:
        _refused(run, stage, _hash_inputs(run, stage), stored)


def is_up_to_date(run: RunDir, stage: Work) -> bool:
    """Whether `run_work` would skip it."""
    stage, stored = _plain(stage), _stored(run, stage.name)
    if stored is None or stored["status"] != "done":
        return False
    return _change(stage, _hash_inputs(run, stage), stored) is None and _intact(run, stored["outputs"])


def check_settings(run: RunDir, stage: str, settings: dict[str, Any]) -> None:
    """The error for a later stage that goes on from what `stage` left, where that was run in another way than is
    configured now: what the later one says of itself would not be so. Only the given settings are compared, of sections
    the given keys."""
    stored, given = _stored(run, stage), json.loads(json.dumps(settings))
    known = stored["settings"] if stored else {}
    then = {name: _of(known[name], given[name]) for name in known if name in given}
    if stored is not None and (change := _other_setting(stage, then, given)):
        raise InputError(f"{change}; run `{stage}` again with --force, or use another run_dir", file=run.uri)


def _of(value: Any, given: Any) -> Any:
    both = isinstance(value, dict) and isinstance(given, dict)
    return {key: value[key] for key in value if key in given} if both else value


def made_before(run: RunDir, stage: Work) -> Iterator[dict[str, Any]]:
    """The manifests of the stages that made what it reads, and of those before them."""
    left, wanted = list(_manifests(run).values()), {*stage.reads, *stage.behind}
    while makers := [one for one in left if wanted & one.get("outputs", {}).keys()]:
        yield from makers
        left = [one for one in left if one not in makers]
        wanted = {name for one in makers for name in (*one["inputs"], *one.get("behind", ()))}


def is_changed(run: RunDir, stage: Work) -> bool:
    """Whether it was run before, and in another way than it would be now; what it read may be gone, too."""
    stage, stored = _plain(stage), _stored(run, stage.name)
    if stored is None:
        return False
    return not all(map(run.exists, stage.reads)) or _change(stage, _hash_inputs(run, stage), stored) is not None


def _plain(stage: Work) -> Work:
    """With settings as they will be read back: lists for tuples, and nothing that JSON does not know."""
    return replace(stage, settings=json.loads(json.dumps(stage.settings)))


def _refused(run: RunDir, stage: Work, inputs: dict[str, str], stored: dict[str, Any]) -> str | None:
    """What has changed, if anything; an error where another configuration's work would be overwritten."""
    change = _change(stage, inputs, stored)
    if change and not stage.remade and _left_something(run, stage, stored):
        raise InputError(f"{change}; use --force to do it again, or another run_dir", file=run.uri)
    return change


def _left_something(run: RunDir, stage: Work, stored: dict[str, Any]) -> bool:
    """Whether there is work that another configuration would overwrite. A stage that failed early left none."""
    return stored["status"] == "done" or bool(stage.folder and run.files(stage.folder))


def is_finished(run: RunDir, stage: str, *, again: bool = False) -> bool:
    """Whether its work is there; an error where it is of another format. Where it may be done `again`, such work is not
    there."""
    stored = _stored(run, stage)
    if stored is None or stored["status"] != "done" or (again and other_format(stored)):
        return False
    check_format(stored, run.uri)
    return True


def summary_of(run: RunDir, stage: str) -> dict[str, Any]:
    """The stored figures of a finished stage."""
    stored = _stored(run, stage)
    if stored is None or stored["status"] != "done":
        raise InputError(f"`{stage}` has not been run yet", file=run.uri)
    check_format(stored, run.uri)
    return stored["summary"]


def _check_read(run: RunDir, stage: Work) -> None:
    """What is read has to be of the formats that this version writes."""
    reads = set(stage.reads)
    for stored in _manifests(run).values():
        if reads & stored.get("outputs", {}).keys():
            check_format(stored, run.uri)


def _hash_inputs(run: RunDir, stage: Work) -> dict[str, str]:
    hashes = {}
    for name in stage.reads:
        try:
            hashes[name] = run.digest(name)
        except FileNotFoundError:
            told = f"`{stage.name}` needs {name}, which is not there; run the stage before it"
            raise InputError(told, file=run.uri) from None
    return hashes | stage.others


def _stored(run: RunDir, stage: str) -> dict[str, Any] | None:
    return _manifest(run, manifest_name(stage))


def _manifest(run: RunDir, name: str) -> dict[str, Any] | None:
    """Nothing where it is not there: between a look and a reading, another command's `--force` may take it away."""
    try:
        return run.read_json(name)
    except Missing:
        return None


def _manifests(run: RunDir) -> dict[str, dict[str, Any]]:
    """Those of all stages, by the files' names."""
    found = {name: _manifest(run, name) for name in run.names("manifests", ".json")}
    return {name: one for name, one in found.items() if one is not None}


def _change(stage: Work, inputs: dict[str, str], stored: dict[str, Any]) -> str | None:
    """What is not as it was when the stage was last run."""
    if told := other_format(stored):
        return told
    if changed := _other_setting(stage.name, stored["settings"], stage.settings):
        return changed
    for name in sorted(stored["inputs"].keys() | inputs.keys()):
        if stored["inputs"].get(name) != inputs.get(name):
            return f"`{stage.name}` was run with another {name}"
    return None


def _other_setting(stage: str, stored: dict[str, Any], now: dict[str, Any]) -> str | None:
    changed = _first_difference(stored, now)
    if changed and changed[0] in now and changed[0] not in stored:
        return f"`{stage}` was run by a version of this program that has no setting `{changed[0]}`"
    return changed and "`{}` was run with {} = {}, now {}".format(stage, *changed)


def _first_difference(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any] | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(n for n in old if n not in new)]:
            found = _first_difference(old.get(name), new.get(name), f"{key}.{name}".lstrip("."))
            if found:
                return found
        return None
    return None if old == new else (key, old, new)


def _intact(run: RunDir, outputs: dict[str, str]) -> bool:
    try:
        return run.digests(outputs) == outputs
    except FileNotFoundError:
        return False


def discard(run: RunDir, stage: Work) -> None:
    """Deletes what the stage left, if it was ever run; all of it where nothing changed since."""
    stored = _stored(run, stage.name)
    if stored is None:
        return
    kept = stage.keyed if is_changed(run, stage) else None
    # The manifest goes first: an interruption must not leave it vouching for files that are gone.
    run.delete(manifest_name(stage.name))
    for name in stored.get("outputs", {}):
        run.delete(name)
    if stage.folder and kept is None:
        run.delete_folder(stage.folder)
    elif stage.folder:
        for name in run.files(stage.folder):
            if not name.startswith(f"{kept}/"):
                run.delete(name)


def discard_all(run: RunDir, prefix: str) -> None:
    """Deletes what all stages left whose names begin so."""
    for name, stored in _manifests(run).items():
        if stored["stage"].startswith(prefix):
            run.delete(name)
            for output in stored.get("outputs", {}):
                run.delete(output)


def _collect(run: RunDir) -> None:
    """`manifest.json`: all stages in one file, for people; made anew from the stages' own each time."""
    stages = sorted(_manifests(run).values(), key=lambda one: one["started"])
    run.write_json("manifest.json", {one["stage"]: one for one in stages})
