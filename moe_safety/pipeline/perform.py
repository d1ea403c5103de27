"""The way of every stage: open the run directory, do the work unless it is done, sum it up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

from moe_safety.config import Config, results_only
from moe_safety.pipeline.run import QUIET
from moe_safety.pipeline.stage import STAGES, Manifest, Stage
from moe_safety.rundir import Outcome, RunDir, Work, check_settings, made_before, run_work


def perform(
    config: Config,
    work: Work,
    body: Callable[[], Outcome],
    *,
    check: Callable[[], object] = lambda: None,
    force: bool = False,
) -> Manifest:
    """The manifest of a stage's work, which is told; the rest is as in `run_work`. A stage of another package is part
    of what decides its work."""
    work = replace(work, others={**work.others, **STAGES.identity(_stage_of(work.name).name)})
    check_made_so(config, work)
    manifest = run_work(RunDir(config.run_dir), work, config.model_dump(mode="json"), body, check=check, force=force)
    tell(config, manifest)
    return manifest


def tell(config: Config, manifest: Manifest) -> None:
    """Prints the lines that sum a stage's work up, unless it runs quietly."""
    lines = iter(() if QUIET.get() else _stage_of(manifest["stage"]).lines(config, manifest))
    if manifest["skipped"]:
        lines = (f"{line} (unchanged)" for line in islice(lines, 1))
    for line in lines:
        print(line, flush=True)


def _stage_of(work: str) -> Stage:
    return STAGES.get(work.partition("/")[0])


def check_made_so(config: Config, work: Work) -> None:
    """What the work reads was made in the way that is configured now, whatever stages made it; else what it says of
    itself would not be so. Each is asked about its own section; what the work has among its own settings is its own
    business."""
    run = RunDir(config.run_dir)
    for made in [] if work.remade else made_before(run, work):
        # Those of arms, whose configurations are their own, are in no registry.
        section = STAGES.get(made["stage"]).section if made["stage"] in STAGES else None
        if section and (then := made["settings"].get(section)):
            kept = then.keys() - work.settings.get(section, {}).keys()
            now = results_only(getattr(config, section))
            check_settings(run, made["stage"], {section: {key: value for key, value in now.items() if key in kept}})
