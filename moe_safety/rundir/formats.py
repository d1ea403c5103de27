"""Formats: the version of what each stage leaves. A number goes up when a table or key of a stage changes its meaning,
and work of another number is refused, since it would be read for what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moe_safety.errors import InputError

_FIRST = 1
FORMATS: Mapping[str, int] = {
    "prepare": 3,  # whether targets ended
    "respond": 2,  # tokens of answers, whether they ended, thinking apart
    "compose": 3,  # no end of turn after a file's target that has not ended; recorded answers without thinking
    "capture": 2,  # whole prompts, spans of answers
    "gradients": 2,  # padding is no token that an expert received
    "effects": 2,  # one interval for both sides
    "identify": 2,  # q-values by goals; causal selections of the guilty sign alone
    "train": 2,  # the earlier scripts' keys of the metadata
    "evaluate": 4,  # references without thinking, and no end of turn after those that have not ended
    "compare": 4,  # the same
    "tune": 4,  # the same
}
"""By stage; those that are not named are still in their first."""


def format_of(stage: str) -> int:
    """The number of what a stage leaves; an arm's or a trial's is that of its stage."""
    return FORMATS.get(stage.partition("/")[0], _FIRST)


def other_format(stored: Mapping[str, Any]) -> str | None:
    """What is to be said of a manifest whose stage left work of another format, if it did."""
    stage, found = stored["stage"], stored.get("format", _FIRST)
    if found == format_of(stage):
        return None
    version = stored["versions"]["moe-safety"]
    return (
        f"`{stage}` was run by moe-safety {version}, which left format {found} where this one reads {format_of(stage)}"
    )


def check_format(stored: Mapping[str, Any], where: str) -> None:
    """An error where what a stage left cannot be read for what it is."""
    if told := other_format(stored):
        raise InputError(f"{told}; run it again with --force, or take another run_dir", file=where)
