"""What the page has not, and why: what to set or run to have it."""

from __future__ import annotations

from collections.abc import Iterator

from moe_safety.report.context import Context

_NOT_EVALUATED = "no arm was evaluated (moe-safety evaluate, or compare)"


def absent(context: Context) -> dict[str, str]:
    """By the title of what is not there."""
    return dict(_sections(context)) | dict(_figures(context))


def _sections(context: Context) -> Iterator[tuple[str, str]]:
    found = context.identification
    if not context.budgets:
        yield "Budget curve", "compare.budgets names no numbers of experts" if context.arms else _NOT_EVALUATED
    if not context.arms:
        yield "Arms", _NOT_EVALUATED
    if found is None:
        yield "Experts, batches by experts, overlap, agreement", "identify has not been run"
    else:
        if not found.selected:
            yield "Selected experts", "none lies above the threshold (identify.threshold, identify.min_score)"
        if context.by_batch is None:
            yield "Batches by experts", "no batch selects any expert, or routing was not captured"
        if not context.overlaps:
            yield "Overlap of batches", "there are no two batches, or categories, to compare"
        if not found.agreement:
            yield "Agreement of methods", "one method alone was measured (gradients and effects measure others)"
    if not context.training:
        yield "Training", "no arm was trained (moe-safety train, or compare)"
    elif not context.moved:
        yield "What changed", "the base model is not at hand as it was trained from, or what was trained is gone"
    if context.arms and not context.shifted:
        yield "Routing shift", "evaluate.routing_prompts is 0, or the routing of this model cannot be read"
    if context.arms and not context.examples:
        yield "Single prompts", "the answers of the base, or of the arm, are not there any more"
    if not context.sweeps:
        yield "Sweeps", "none was run in this run directory (moe-safety tune)"
    if not context.timings.stages:
        yield "Where the time went", "an earlier version wrote the manifests, and they have no timings"


def _figures(context: Context) -> Iterator[tuple[str, str]]:
    """What stands inside the sections on arms."""
    if not context.arms:
        return
    if not context.harm_is_judged:
        yield (
            "Judged harm",
            "no judge of harm is configured (judges.harm); only whether attacks are answered is known",
        )
    if not context.wrappers:
        yield "Further attacks", "evaluate.reattack names none"
    if not context.suites:
        yield "Suites", "evaluate.suites names none"
    if not context.tries:
        yield "Success within several tries", "each attack was answered once (evaluate.samples)"
    if not context.corrected:
        yield "Rates corrected by the judges' errors", "judges.calibration names no measurement on human labels"
    if not context.repeated:
        yield "Spread between seeds", "compare.seeds names no further seed"
    if not context.identified_again:
        yield "Identification on the hardened model", "evaluate.reidentify is off, or nothing was hardened"
    if not context.tasks:
        yield "Tasks of lm-evaluation-harness", "evaluate.lm_eval_tasks names none"
    if not context.categories:
        yield "By category", "the prompts name no category"
    if not context.batches:
        yield "By training batch", "training batches were not asked (evaluate.split: train)"
