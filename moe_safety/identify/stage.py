"""`identify`: from routing counts to risk differences, a selection of experts and its masks."""

from __future__ import annotations

from functools import partial
from typing import Any

from moe_safety.batches.files import BATCHES
from moe_safety.config import Config, results_only
from moe_safety.identify.analysis import Analysis, analyse
from moe_safety.identify.files import write_results
from moe_safety.identify.inputs import Inputs, read_inputs
from moe_safety.identify.pictures import draw_pictures
from moe_safety.identify.places import PROMPTS
from moe_safety.identify.printing import print_summary
from moe_safety.identify.reduce import reduce_parts
from moe_safety.identify.resample import resampled_goals
from moe_safety.identify.selection import Selection
from moe_safety.identify.summary import summarise
from moe_safety.identify.sums import Reducer
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage


def identify(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes the risk tables, `selection.json`, the masks and the pictures."""
    run = RunDir(config.run_dir)
    inputs = read_inputs(config, run)
    stage = Stage(
        "identify",
        settings={"seed": config.seed, "identify": results_only(config.identify)},
        reads=(PROMPTS, BATCHES),
        others={"model": inputs.model, "routing": inputs.digest},
    )
    body = partial(_identify, config, run, inputs)
    manifest = run_stage(run, stage, config.model_dump(mode="json"), body, force=force)
    print_summary(manifest)
    return manifest


def _identify(config: Config, run: RunDir, inputs: Inputs) -> Outcome:
    settings = config.identify
    analysis = _analyse(config, run, inputs)
    outputs = write_results(run, analysis, _selection(config, run, inputs, analysis))
    outputs += draw_pictures(run, analysis, settings)
    return Outcome(outputs=tuple(outputs), summary=summarise(analysis, settings, inputs.uncounted))


def _analyse(config: Config, run: RunDir, inputs: Inputs) -> Analysis:
    settings, places, experts = config.identify, inputs.places, inputs.experts
    times = resampled_goals(places, settings.bootstrap_rounds, config.seed)
    counts = reduce_parts(run, inputs.files, Reducer(places, experts, times))
    weights = None
    if settings.score == "weight":
        weights = reduce_parts(run, inputs.files, Reducer(places, experts, times, "weights"))
    return analyse(settings, config.seed, experts, places, counts, weights)


def _selection(config: Config, run: RunDir, inputs: Inputs, analysis: Analysis) -> Selection:
    settings = config.identify
    ranked = settings.method != "random"
    return Selection(
        method=settings.method,
        score=settings.score if ranked else None,
        threshold=settings.threshold if ranked else None,
        top_k=settings.top_k,
        top_p=settings.top_p,
        model=inputs.model,
        experts=analysis.selected,
        per_batch=analysis.per_batch,
        inputs={PROMPTS: run.digest(PROMPTS), BATCHES: run.digest(BATCHES), "routing": inputs.digest},
    )
