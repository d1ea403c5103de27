"""`report`: one page from whatever stages are there."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

from moe_safety.config import Config
from moe_safety.errors import InputError
from moe_safety.pipeline import REPORT
from moe_safety.pipeline.perform import perform
from moe_safety.report.caveats import caveats
from moe_safety.report.context import files_read, read_context
from moe_safety.report.context.origins import read_manifests
from moe_safety.report.page import render
from moe_safety.report.verdict import verdict
from moe_safety.rundir import Outcome, RunDir, Work


def report(config: Config, *, force: bool = False, show_text: bool = False) -> dict[str, Any]:
    """Writes `report.html`; harmful words stand in it only with `show_text`."""
    run = RunDir(config.run_dir)
    manifests = read_manifests(run)
    if not manifests:
        raise InputError("no stage has been run yet, so there is nothing to report", file=config.run_dir)
    work = Work(
        "report",
        settings={"show_text": show_text},
        reads=files_read(run),
        others={f"manifest of {name}": _digest(manifest) for name, manifest in manifests.items()},
        remade=True,
    )
    return perform(config, work, partial(_report, config, run, show_text), force=force)


def _digest(manifest: dict[str, Any]) -> str:
    """Of what a stage did, however often it was asked to."""
    did = {name: value for name, value in manifest.items() if name not in ("started", "finished", "timings")}
    return hashlib.sha256(json.dumps(did, sort_keys=True).encode()).hexdigest()


def _report(config: Config, run: RunDir, show_text: bool) -> Outcome:
    context = read_context(run, config.model, show_text=show_text)
    run.write_bytes(REPORT, render(context).encode())
    return Outcome(outputs=(REPORT,), summary={"verdict": verdict(context), "caveats": caveats(context)})
