"""Inputs: prompts from files and datasets, attack forms and controls, everything split by goal."""

from __future__ import annotations

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
    from moe_safety.inputs.stage import prepare

    return prepare(config, **options)


STAGES.add(Stage("prepare", "read attack, benign and control files, split by goal", _prepare, writes=(PROMPTS,)))
