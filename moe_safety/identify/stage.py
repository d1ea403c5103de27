"""`identify`: from routing counts to risk differences, a selection of experts and its masks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from moe_safety.batches.files import BATCHES
from moe_safety.config import Config, IdentifyConfig, results_only
from moe_safety.identify.agreement import AGREEMENT, agreement_table
from moe_safety.identify.experts import Experts
from moe_safety.identify.files import write_results
from moe_safety.identify.inputs import Inputs, Routing, read_inputs
from moe_safety.identify.methods import selection_of
from moe_safety.identify.places import PROMPTS, Places
from moe_safety.identify.printing import print_summary
from moe_safety.identify.reduce import Reduction, reduce_parts
from moe_safety.identify.resample import resampled_goals
from moe_safety.identify.scored import SCORED, all_scores
from moe_safety.identify.summary import summarise
from moe_safety.identify.sums import Reducer
from moe_safety.rundir import Outcome, RunDir, Stage, run_stage

if TYPE_CHECKING:
    from moe_safety.identify.analysis import Analysis


def identify(config: Config, *, force: bool = False, pictures: bool = True) -> dict[str, Any]:
    """Writes `selection.json`, the masks, the pictures and, where routing was captured, the risk tables. Pictures take
    most of its time, and can be left out where nobody will look at them."""
    run = RunDir(config.run_dir)
    inputs = read_inputs(config, run)
    scored = tuple(method.table for method in SCORED.values() if run.exists(method.table))
    stage = Stage(
        "identify",
        settings={"seed": config.seed, "identify": results_only(config.identify)},
        reads=(PROMPTS, BATCHES, *scored),
        others={"model": inputs.model, **inputs.counts_hash},
    )
    body = partial(_identify, config, run, inputs, pictures)
    manifest = run_stage(run, stage, config.model_dump(mode="json"), body, force=force)
    print_summary(manifest)
    return manifest


def _identify(config: Config, run: RunDir, inputs: Inputs, pictures: bool) -> Outcome:
    settings = config.identify
    analysis = _analyse(config, run, inputs)
    selection = selection_of(config, run, inputs, analysis.selected, analysis.per_batch)
    outputs = write_results(run, analysis, selection)
    outputs += _compare_methods(run, analysis, settings, pictures)
    if pictures:
        from moe_safety.identify.pictures import draw_pictures

        outputs += draw_pictures(run, analysis, settings)
    uncounted = inputs.routing.uncounted if inputs.routing else 0
    return Outcome(outputs=tuple(outputs), summary=summarise(analysis, settings, uncounted))


def _analyse(config: Config, run: RunDir, inputs: Inputs) -> Analysis:
    from moe_safety.identify.analysis import analyse

    settings, places, experts = config.identify, inputs.places, inputs.experts
    counts, weights = _reduce(config, run, inputs.routing, places, experts) if inputs.routing else (None, None)
    return analyse(settings, config.seed, experts, places, counts, weights, inputs.scored)


def _reduce(
    config: Config, run: RunDir, routing: Routing, places: Places, experts: Experts
) -> tuple[Reduction, Reduction | None]:
    """The sums of counts, and those of weights where these are ranked by."""
    times = resampled_goals(places, config.identify.bootstrap_rounds, config.seed)
    counts = reduce_parts(run, routing.files, Reducer(places, experts, times))
    weighed = config.identify.routing_score == "weight"
    return counts, reduce_parts(run, routing.files, Reducer(places, experts, times, "weights")) if weighed else None


def _compare_methods(run: RunDir, analysis: Analysis, settings: IdentifyConfig, pictures: bool) -> list[str]:
    """How far methods agree, as far as their stages have been run."""
    scores = {"routing": analysis.risk.scores(settings.routing_score)} if analysis.risk else {}
    scores |= all_scores(run, analysis.experts)
    run.write_table(AGREEMENT, agreement_table(scores, analysis.experts, settings.top_k))
    if not pictures:
        return [AGREEMENT]
    from moe_safety.identify.pictures import draw_agreement

    return [AGREEMENT, *draw_agreement(run, scores, analysis.experts)]
