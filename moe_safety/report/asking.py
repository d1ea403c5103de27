"""What was asked, in words: each sentence from the figures and settings of a finished stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moe_safety.batches import foreign_answers, nothing_harmless
from moe_safety.config import BY_CHANCE, BatchesConfig
from moe_safety.report.context import Context
from moe_safety.scores import SCORES

_NAMES = {
    "safe": "plain goals",
    "unsafe": "attacks",
    "benign": "harmless requests",
    "control": "harmless requests in the attack's wrapper",
}
_HOPED = {"safe": ("refused", "were refused"), "unsafe": ("complied", "were answered")}
"""What a pair is made of."""


def prompts(context: Context) -> str:
    """How many of each kind, and what they are about."""
    found = context.summaries["prepare"]
    counts = ", ".join(f"{sum(splits.values())} {label}" for label, splits in found["labels"].items())
    about = "goals and harmless requests" if {"benign", "control"} & found["labels"].keys() else "goals"
    return f"{counts}, about {found['goals']} {about}. All prompts of one stand on one side of the split."


def judged(context: Context) -> str:
    """What the judge said of the answers, and what that decided."""
    summary, settings = context.summaries["respond"], context.settings["respond"]
    verdicts = _by_label(summary["verdicts"])
    pairs = {label: verdicts[label] for label in _HOPED if label in verdicts}
    said = " and ".join(
        f"{counts.get(_HOPED[label][0], 0)} of {sum(counts.values())} {_NAMES[label]} {_HOPED[label][1]}"
        for label, counts in pairs.items()
    )
    unread = sum(counts.get("unparsed", 0) for counts in verdicts.values())
    could = f"; it could not read {unread} answers" if unread else ""
    kind = settings["judges"]["refusal"]["kind"]
    return f"The judge ({kind}) says that {said}{could}." if said else "No pair was judged."


def kept(context: Context) -> str:
    """What of it batches may be made of, and why the rest is left out."""
    summary, filtering = context.summaries["respond"], context.settings["respond"]["respond"]["filter"]
    counts = ", ".join(f"{count} {label}" for label, count in summary["kept"].items()) or "nothing"
    whatever = "" if filtering else ", pairs whatever the judge says of them (respond.filter: false)"
    gone = "".join(f"; {count} prompts dropped, {reason}" for reason, count in summary["dropped"].items())
    return f"Kept: {counts}{whatever}{gone}."


def whose(context: Context) -> str:
    """Who gave the answers that are counted, and whether they look like the model's own."""
    found = context.summaries["compose"]["answers"]
    recorded, own = found["recorded"], found["own"]
    told = f"Of the answers that are counted, {recorded} come from the files and {own} are the model's own."
    warning = foreign_answers(context.summaries["compose"])
    return f"{told} Warning: {warning}." if warning else told


def left_out(context: Context) -> str:
    """The rows that were too long; nothing where none was."""
    summary = context.summaries["compose"]
    if not summary["too_long"]:
        return ""
    counts = ", ".join(f"{count} {label}" for label, count in summary["too_long"].items())
    named, total = summary["too_long_rows"], sum(summary["too_long"].values()) - summary["too_long"].get("pairs", 0)
    more = f" and {total - len(named)} more" if total > len(named) else ""
    return f"Left out, since longer than batches.max_length or the model's window: {counts} ({', '.join(named)}{more})."


def unguarded(context: Context) -> str:
    """A warning where nothing harmless is learned; nothing where something is."""
    trained = [one["train"]["labels"] for stage, one in context.settings.items() if stage.startswith("train/")]
    learned = frozenset(trained[0]) if trained else None
    warning = nothing_harmless(context.summaries["compose"]["labels"], learned)
    return f"Warning: {warning}." if warning else ""


def batches(context: Context) -> str:
    """Their size and composition, as they were filled."""
    summary = context.summaries["compose"]
    asked = BatchesConfig.model_validate(context.settings["compose"]["batches"])
    of_each = {
        "safe": asked.safe_per_batch,
        "unsafe": asked.unsafe_per_batch,
        "benign": asked.benign_per_batch,
        "control": asked.control_per_batch,
    }
    full = summary["rows"] == summary["batches"] * sum(of_each.values())
    composition = ", ".join(f"{count} {label}" for label, count in of_each.items())
    return f"{summary['batches']} batches, each of {'' if full else 'at most '}{composition} prompts."


def selection(context: Context) -> str:
    """Who was selected, and by what rule."""
    assert context.identification is not None
    summary, rule = context.identification.summary, context.settings["identify"]["identify"]
    method, selected, union = summary["method"], summary["selected"], summary["per_batch"]["union"]
    if method in BY_CHANCE:
        return f"{selected} experts {BY_CHANCE[method].says}."
    lowest = rule["threshold" if SCORES.get(summary["score"]).lowest == "threshold" else "min_score"]
    bound = "" if lowest is None else f", above {lowest:g}"
    chosen = f"the best {selected} over all layers together" if selected else "none"
    sentence = f"By {method} ({summary['score']}){bound}: {chosen}."
    if union > selected:
        sentence += f" The batches' own selections have {union} experts in their union."
    return sentence


def _by_label(verdicts: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, count in verdicts.items():
        label, verdict = name.split(" ")
        found.setdefault(label, {})[verdict] = count
    return found
