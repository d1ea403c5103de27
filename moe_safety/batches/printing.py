"""What `respond` and `compose` say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.batches.warnings import foreign_answers, nothing_harmless, refusals_of_attacks
from moe_safety.config import Config


def respond_lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    """What the model said, what the judge said of it, and what is kept."""
    summary = manifest["summary"]
    yield f"respond: {summary['prompts']} prompts, {summary['recorded']} with a recorded answer"
    for name in ("verdicts", "dropped", "kept"):
        counts = ", ".join(f"{key} {count}" for key, count in summary[name].items())
        yield f"  {name}: {counts or 'none'}"
    if summary["unended"]:
        yield f"  {summary['unended']} answers ran into respond.max_new_tokens, and are not taken as ended"
    if too_long := summary["too_long_to_judge"]:
        yield f"  {too_long} questions were too long for the judge, which gave them no verdict"
    for pair, kappa in summary.get("agreement", {}).items():
        yield f"  agreement of {pair}: {'n/a' if kappa is None else f'{kappa:.2f}'} (Cohen's kappa)"
    if warning := foreign_answers(summary):
        yield f"  warning: {warning}"


def compose_lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    """What the batches hold, whose the answers are, and what is left out."""
    summary = manifest["summary"]
    settings = config.batches
    yield (
        f"compose: {summary['batches']} batches, {summary['rows']} rows; each {settings.safe_per_batch} safe, "
        f"{settings.unsafe_per_batch} unsafe, {settings.benign_per_batch} benign, {settings.control_per_batch} control"
    )
    if summary["partial"]:
        yield f"  {summary['partial']} of them with fewer pairs (batches.partial: drop leaves these out)"
    own, recorded = summary["answers"]["own"], summary["answers"]["recorded"]
    yield f"  answers from {summary['answered_by']}: {recorded} recorded in files, {own} the model's own"
    for name in ("leftover", "reused"):
        counts = ", ".join(f"{count} {label}" for label, count in summary[name].items() if count)
        yield f"  {name}: {counts or 'none'}"
    if summary["too_long"]:
        counts = ", ".join(f"{count} {label}" for label, count in summary["too_long"].items())
        yield f"  longer than batches.max_length or the model's window, so left out: {counts}"
        yield f"    {', '.join(summary['too_long_rows'][:3])}{', ...' if len(summary['too_long_rows']) > 3 else ''}"
    judged = refusals_of_attacks(summary.get("attacks", {}))
    for warning in (judged, foreign_answers(summary), nothing_harmless(summary["labels"])):
        if warning:
            yield f"  warning: {warning}"
