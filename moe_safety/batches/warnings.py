"""What a user should know of answers and batches before believing what follows from them, each in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SURPRISE = 0.5
"""Nats per token that recorded answers may be less likely than the model's own before a warning says so."""


def foreign_answers(summary: Mapping[str, Any]) -> str | None:
    """Where recorded answers are hardly the model's own; `summary` is that of `respond` or `compose`."""
    recorded, own = summary.get("recorded_nats"), summary.get("own_nats")
    if recorded is None or own is None or recorded - own <= SURPRISE:
        return None
    return (
        f"recorded answers to attacks have {recorded:.2f} nats per token, the model's own {own:.2f}: they look like "
        "another model's; respond.recorded=false lets this one answer for itself"
    )


def refusals_of_attacks(verdicts: Mapping[str, int]) -> str | None:
    """Where answers to attacks in the batches may be refusals, which capture counts as unsafe all the same; `verdicts`
    has how many there are of each, `none` where nobody judged."""
    if refused := verdicts.get("refused"):
        told = f"{refused} answers to attacks are refusals, kept since respond.filter is false"
    elif unjudged := verdicts.get("none"):
        told = f"nobody judged {unjudged} recorded answers to attacks, so some may be refusals (`respond` drops these)"
    else:
        return None
    return f"{told}; they are counted as unsafe answers"


def nothing_harmless(labels: Mapping[str, int], learned: frozenset[str] | None = None) -> str | None:
    """Where no row teaches a model to go on helping: none of a kind is in the batches, or none of it is `learned`."""
    missing = [label for label in ("benign", "control") if not labels.get(label)]
    left_out = [label for label in ("benign", "control") if labels.get(label) and learned and label not in learned]
    if not missing and not left_out:
        return None
    keys = [f"batches.{label}_per_batch" for label in missing] + (["train.labels"] if left_out else [])
    kinds = " and no ".join([*missing, *left_out])
    return (
        f"no {kinds} rows are learned, and a repair on refusals alone refuses harmless requests; see {', '.join(keys)}"
    )
