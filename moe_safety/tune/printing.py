"""What `tune` says of its trials at its end."""

from __future__ import annotations

from typing import Any

from moe_safety.config import MEASURES, SweepFile
from moe_safety.rundir import RunDir
from moe_safety.tune.outcome import described, ranked
from moe_safety.tune.records import Records

_FIRST = 5


def print_summary(file: SweepFile, manifest: dict[str, Any]) -> None:
    """Prints how many trials a sweep had, and the best of them; of one that was done already the first line alone."""
    summary, sweep, folder = manifest["summary"], file.sweep, f"tune/{file.name}"
    counts = ", ".join(f"{summary[status]} {status}" for status in ("finished", "stopped", "failed") if summary[status])
    print(f"tune: {summary['trials']} trials: {counts}" + (" (unchanged)" if manifest["skipped"] else ""))
    if manifest["skipped"]:
        return
    run = RunDir(file.config.run_dir)
    for record in ranked(sweep, Records(run, folder).read())[:_FIRST]:
        known = {name: record.measured(name) for name in MEASURES[sweep.kind]}
        measured = ", ".join(f"{name} {value:.3f}" for name, value in known.items() if value is not None)
        print(f"  {measured}: {described(sweep, record)}")
