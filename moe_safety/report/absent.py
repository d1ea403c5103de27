"""What the page has not, and why: what to set or run to have it."""

from __future__ import annotations

from operator import attrgetter

from moe_safety.report.context import Context

_NOT_EVALUATED = "no arm was evaluated (moe-safety evaluate, or compare)"
_UNJUDGED = "no judge of harm is configured (judges.harm); only whether attacks are answered is known"

_PARTS = (
    ("", "budgets", "Budget curve", _NOT_EVALUATED),
    ("arms", "budgets", "Budget curve", "compare.budgets names no numbers of experts"),
    ("", "arms", "Arms", _NOT_EVALUATED),
    ("", "identification", "Experts, batches by experts, overlap, agreement", "identify has not been run"),
    (
        *("identification", "identification.selected", "Selected experts"),
        "none lies above the threshold (identify.threshold, identify.min_score)",
    ),
    (
        *("identification", "by_batch", "Batches by experts"),
        "no batch selects any expert, or routing was not captured",
    ),
    ("identification", "overlaps", "Overlap of batches", "there are no two batches, or categories, to compare"),
    (
        *("identification", "identification.agreement", "Agreement of methods"),
        "one method alone was measured (gradients and effects measure others)",
    ),
    ("", "training", "Training", "no arm was trained (moe-safety train, or compare)"),
    (
        *("training", "moved", "What changed"),
        "the base model is not at hand as it was trained from, or what was trained is gone",
    ),
    (
        *("arms", "shifted", "Routing shift"),
        "evaluate.routing_prompts is 0, or the routing of this model cannot be read",
    ),
    (
        *("arms", "weighed", "No worse than the base?"),
        "margins stand in a comparison (moe-safety compare) of arms beside the base",
    ),
    (
        *("arms", "reworded", "What harmless answers say"),
        "evaluate.routing_prompts is 0, or two models' answers cannot be compared",
    ),
    (
        *("arms", "held_back", "How firm the repair is, held back"),
        "evaluate.held_back is not set, or no attack has a recorded answer",
    ),
    (
        *("arms", "after_finetuning", "How firm the repair is, fine-tuned"),
        "evaluate.after_finetuning is not set, or no attack has a recorded answer",
    ),
    ("arms", "examples", "Single prompts", "the answers of the base, or of the arm, are not there any more"),
    ("", "sweeps", "Sweeps", "none was run in this run directory (moe-safety tune)"),
    (
        *("", "timings.stages", "Where the time went"),
        "an earlier version wrote the manifests, and they have no timings",
    ),
    ("arms", "harm_is_judged", "Judged harm", _UNJUDGED),
    ("arms", "wrappers", "Further attacks", "evaluate.reattack names none"),
    ("arms", "suites", "Suites", "evaluate.suites names none"),
    ("arms", "tries", "Success within several tries", "each attack was answered once (evaluate.samples)"),
    (
        *("arms", "corrected", "Rates corrected by the judges' errors"),
        "judges.calibration names no measurement on human labels",
    ),
    ("arms", "repeated", "Spread between seeds", "compare.seeds names no further seed"),
    (
        *("arms", "identified_again", "Identification on the hardened model"),
        "evaluate.reidentify is off, or nothing was hardened",
    ),
    ("arms", "tasks", "Tasks of lm-evaluation-harness", "evaluate.lm_eval_tasks names none"),
    ("arms", "categories", "By category", "the prompts name no category"),
    ("arms", "batches", "By training batch", "training batches were not asked (evaluate.split: train)"),
)
"""Of a context: what a part belongs to, if to anything, what it shows, its title, and why it is not there."""


def absent(context: Context) -> dict[str, str]:
    """By the title of what is not there."""
    return {
        title: why
        for of, shown, title, why in _PARTS
        if (not of or attrgetter(of)(context)) and not attrgetter(shown)(context)
    }
