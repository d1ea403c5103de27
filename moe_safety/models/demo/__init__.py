"""The demo model: a tiny mixture of experts, trained here in an invented language."""

from moe_safety.models.demo.build import demo_folder
from moe_safety.models.demo.language import HARMLESS_VERBS, REFUSAL, Request

__all__ = [
    "HARMLESS_VERBS",
    "REFUSAL",
    "Request",
    "demo_folder",
]
