"""`identify`: from routing counts to risk differences, a selection of experts and its masks."""

from __future__ import annotations

from functools import partial
from typing import Any

from moe_safety.batches.files import BATCHES
from moe_safety.config import Config, IdentifyConfig, results_only
from moe_safety.identify.agreement import AGREEMENT, agreement_table
from moe_safety.identify.analysis import Analysis, analyse, score_column
from moe_safety.identify.files import write_results
from moe_safety.identify.inputs import Inputs, read_inputs
from moe_safety.identify.pictures import draw_agreement, draw_pictures
from moe_safety.identify.places import PROMPTS
from moe_safety.identify.printing import print_summary
from moe_safety.identify.reduce import reduce_parts
from moe_safety.identify.resample import resampled_goals
from moe_safety.identify.scored import SCORED, all_scores, scores_of
from moe_safety.identify.selection import Selection
from moe_safety.identify.summary import summarise
from moe_safety.identify.sums import Reducer
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage


def identify(config: Config, *, force: bool = False) -> dict[str, Any]:
    """Writes the risk tables, `selection.json`, the masks and the pictures."""
    run = RunDir(config.run_dir)
    inputs = read_inputs(config, run)
    scored = tuple(method.table for method in SCORED.values() if run.exists(method.table))
    stage = Stage(
        "identify",
        settings={"seed": config.seed, "identify": results_only(config.identify)},
        reads=(PROMPTS, BATCHES, *scored),
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
    outputs += _compare_methods(run, analysis, settings)
    return Outcome(outputs=tuple(outputs), summary=summarise(analysis, settings, inputs.uncounted))


def _analyse(config: Config, run: RunDir, inputs: Inputs) -> Analysis:
    settings, places, experts = config.identify, inputs.places, inputs.experts
    times = resampled_goals(places, settings.bootstrap_rounds, config.seed)
    counts = reduce_parts(run, inputs.files, Reducer(places, experts, times))
    weights = None
    if settings.routing_score == "weight":
        weights = reduce_parts(run, inputs.files, Reducer(places, experts, times, "weights"))
    scored = scores_of(run, settings, experts, places.batch_ids)
    return analyse(settings, config.seed, experts, places, counts, weights, scored)


def _compare_methods(run: RunDir, analysis: Analysis, settings: IdentifyConfig) -> list[str]:
    """How far methods agree, as far as their stages have been run."""
    scores = {"routing": analysis.table[score_column(settings.routing_score)].to_numpy()}
    scores |= all_scores(run, analysis.experts)
    run.write_table(AGREEMENT, agreement_table(scores, analysis.experts, settings.top_k))
    return [AGREEMENT, *draw_agreement(run, scores, analysis.experts)]


def _selection(config: Config, run: RunDir, inputs: Inputs, analysis: Analysis) -> Selection:
    settings = config.identify
    ranked = settings.method != "random"
    return Selection(
        method=settings.method,
        score=settings.ranked_by if ranked else None,
        threshold=settings.min_score if settings.method in SCORED else settings.threshold if ranked else None,
        top_k=settings.top_k,
        top_p=settings.top_p,
        model=inputs.model,
        experts=analysis.selected,
        per_batch=analysis.per_batch,
        inputs={PROMPTS: run.digest(PROMPTS), BATCHES: run.digest(BATCHES), "routing": inputs.digest},
    )
