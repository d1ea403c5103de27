"""Inputs: prompts from files and datasets, attack forms and controls, everything split by goal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moe_safety.config import FORMATS, Config
from moe_safety.inputs.conversation import Message, plain, with_system
from moe_safety.inputs.format import Format
from moe_safety.inputs.record import Role
from moe_safety.inputs.wrappers import WRAPPERS, wrap, wrap_conversation
from moe_safety.pipeline import PROMPTS, STAGES, Stage

__all__ = ["FORMATS", "WRAPPERS", "Format", "Message", "Role", "plain", "with_system", "wrap", "wrap_conversation"]

FORMATS.add_folder("moe_safety.inputs.formats")


def _prepare(config: Config, **options: Any) -> dict[str, Any]:
    from moe_safety.inputs.prepare import prepare

    return prepare(config, **options)


def _lines(config: Config, manifest: dict[str, Any]) -> Iterator[str]:
    counts = manifest["summary"]
    for source in counts["sources"]:
        yield f"prepare: {source['source']} ({source['format']}): {source['rows']} rows, {_list(source['prompts'])}"
        if source["dropped"]:
            yield f"  left out: {_list(source['dropped'])}"
        for note in source["notes"]:
            yield f"  {note}"
    for label, splits in counts["labels"].items():
        yield f"  {label}: {_list(splits)}"
    yield f"  {counts['goals']} goals, {counts['duplicates']} duplicate prompts merged"


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


STAGES.add(
    Stage(
        "prepare",
        "read attack, benign and control files, split by goal",
        _prepare,
        writes=(PROMPTS,),
        lines=_lines,
        section="data",
    )
)
