"""`report`: one page from whatever stages are there."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

from moe_safety.config import Config
from moe_safety.errors import InputError
from moe_safety.report.caveats import caveats
from moe_safety.report.context import files_read, read_context
from moe_safety.report.context.origins import read_manifests
from moe_safety.report.page import render
from moe_safety.report.verdict import verdict
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage

PAGE = "report.html"


def report(config: Config, *, force: bool = False, show_text: bool = False) -> dict[str, Any]:
    """Writes `report.html`; harmful words stand in it only with `show_text`."""
    run = RunDir(config.run_dir)
    manifests = read_manifests(run)
    if not manifests:
        raise InputError("no stage has been run yet, so there is nothing to report", file=config.run_dir)
    stage = Stage(
        "report",
        settings={"show_text": show_text},
        reads=files_read(run),
        others={f"manifest of {name}": _digest(manifest) for name, manifest in manifests.items()},
        remade=True,
    )
    body = partial(_report, config, run, show_text)
    manifest = run_stage(run, stage, config.model_dump(mode="json"), body, force=force)
    print(f"report: {manifest['summary']['verdict']}")
    for caveat in manifest["summary"]["caveats"]:
        print(f"  {caveat}")
    print(f"report: {run.path(PAGE)}" + (" (unchanged)" if manifest["skipped"] else ""))
    return manifest


def _digest(manifest: dict[str, Any]) -> str:
    """Of what a stage did, however often it was asked to."""
    did = {name: value for name, value in manifest.items() if name not in ("started", "finished")}
    return hashlib.sha256(json.dumps(did, sort_keys=True).encode()).hexdigest()


def _report(config: Config, run: RunDir, show_text: bool) -> Outcome:
    context = read_context(run, config.model, show_text=show_text)
    run.write_bytes(PAGE, render(context).encode())
    return Outcome(outputs=(PAGE,), summary={"verdict": verdict(context), "caveats": caveats(context)})
