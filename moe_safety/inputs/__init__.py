"""Reads prompts from files and datasets, makes attack forms and controls, and splits everything by goal."""

from moe_safety.config.names import FORMATS
from moe_safety.inputs.conversation import Message
from moe_safety.inputs.format import Format
from moe_safety.inputs.prepare import Prepared, read_prompts
from moe_safety.inputs.split import check_no_leak
from moe_safety.inputs.table import MESSAGES, PROMPTS_SCHEMA, goal_id, normalise, prompt_id
from moe_safety.inputs.wrappers import WRAPPERS, wrap

__all__ = [
    "FORMATS",
    "MESSAGES",
    "PROMPTS_SCHEMA",
    "WRAPPERS",
    "Format",
    "Message",
    "Prepared",
    "check_no_leak",
    "goal_id",
    "normalise",
    "prompt_id",
    "read_prompts",
    "wrap",
]

FORMATS.add_folder("moe_safety.inputs.formats")
